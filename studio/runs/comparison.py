"""Comparison of several runs: settings that differ, and samples in common. No torch."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from studio.config import fields, schedules
from studio.core.errors import StudioError
from studio.core.workspace import Workspace
from studio.datasets.trigger_words import to_placeholder
from studio.runs.run import Run

FEWEST, MOST = 2, 6
SHOWN_WITH_THE_DATASET = ("dataset.id",)
"""Settings that the row about the dataset already shows."""


@dataclass(frozen=True)
class Difference:
    """A setting with its value in each run."""

    path: str
    title: str
    values: tuple[str, ...]


def select_runs(workspace: Workspace, ids: Sequence[str]) -> list[Run]:
    """The runs to compare, oldest first. StudioError if there are too few or too many, or one does not exist."""
    runs = sorted((Run.open(workspace, run_id) for run_id in dict.fromkeys(ids)), key=lambda run: run.snapshot["created"])
    if not FEWEST <= len(runs) <= MOST:
        raise StudioError(f"{len(runs)} runs cannot be compared; choose {FEWEST} to {MOST}.")
    return runs


def find_differences(runs: Sequence[Run]) -> list[Difference]:
    """Differences between the runs: the dataset first, then the settings in config order."""
    configs = [run.config for run in runs]
    found = []
    hashes = [run.snapshot["sha256"] for run in runs]
    if len(set(hashes)) > 1:
        found.append(Difference("dataset", "Images", tuple(map(_dataset_label, runs))))
    alpha_follows_rank = all(config.lora.alpha == config.lora.rank for config in configs)
    for leaf in fields.leaves(configs[0]):
        values = [fields.get(config, leaf.path) for config in configs]
        if all(value == values[0] for value in values) or leaf.path in SHOWN_WITH_THE_DATASET or (leaf.path == "lora.alpha" and alpha_follows_rank):
            continue
        found.append(Difference(leaf.path, leaf.title, tuple(map(format_value, values))))
    extensions = [" ".join(schedules.describe_extensions(config.training)) for config in configs]
    if len(set(extensions)) > 1:
        found.append(Difference("training.extensions", "Extended", tuple(map(format_value, extensions))))
    return found


def format_value(value: Any) -> str:
    """A setting's value as text."""
    match value:
        case None | "" | []:
            return "empty"
        case bool():
            return "yes" if value else "no"
        case float():
            return f"{value:g}"
        case list():
            return "; ".join(map(str, value))
    return str(value)


def _dataset_label(run: Run) -> str:
    snapshot = run.snapshot
    return f"{snapshot['dataset_title']}, {len(snapshot['pictures'])}, version {snapshot['sha256'][:6]}"


def steps_in_common(runs: Sequence[Run]) -> list[int]:
    """Steps at which every run has samples; 0 is the base alone."""
    return sorted(set.intersection(*(set(run.samples()) for run in runs)))


def prompts_in_common(runs: Sequence[Run]) -> list[tuple[str, tuple[int, ...]]]:
    """(prompt with the placeholder "[trigger]", its index in each run), in the order of the first run."""
    rows = []
    for run in runs:
        config = run.config
        prompts = [to_placeholder(prompt, config.dataset.trigger_word) for prompt in config.samples.prompts]
        rows.append({prompt: prompts.index(prompt) for prompt in prompts})
    return [(prompt, tuple(each[prompt] for each in rows)) for prompt in rows[0] if all(prompt in each for each in rows)]
