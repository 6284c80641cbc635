"""Several runs beside each other: the settings that differ, and the samples that may be compared. No torch."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from studio.config import fields
from studio.core.errors import StudioError
from studio.core.workspace import Workspace
from studio.datasets.trigger_words import to_placeholder
from studio.runs.run import Run

FEWEST, MOST = 2, 6
OTHERWISE_TOLD = ("dataset.id",)
"""What the line about the pictures says in words."""


@dataclass(frozen=True)
class Difference:
    """A setting with its value in each run."""

    path: str
    title: str
    values: tuple[str, ...]


def chosen(workspace: Workspace, ids: Sequence[str]) -> list[Run]:
    """The runs to compare, oldest first; StudioError when there are too few or too many, or one is gone."""
    runs = sorted((Run.open(workspace, run_id) for run_id in dict.fromkeys(ids)), key=lambda run: run.snapshot["created"])
    if not FEWEST <= len(runs) <= MOST:
        raise StudioError(f"{len(runs)} runs cannot be compared; choose {FEWEST} to {MOST}.")
    return runs


def differences(runs: Sequence[Run]) -> list[Difference]:
    """What is not the same in all of them, first the pictures, then the settings in their order."""
    configs = [run.config for run in runs]
    found = []
    hashes = [run.snapshot["sha256"] for run in runs]
    if len(set(hashes)) > 1:
        found.append(Difference("dataset", "Pictures", tuple(map(_pictures, runs))))
    follows = all(config.lora.alpha == config.lora.rank for config in configs)
    for leaf in fields.leaves(configs[0]):
        values = [fields.get(config, leaf.path) for config in configs]
        if all(value == values[0] for value in values) or leaf.path in OTHERWISE_TOLD or (leaf.path == "lora.alpha" and follows):
            continue
        found.append(Difference(leaf.path, leaf.title, tuple(map(said, values))))
    return found


def said(value: Any) -> str:
    """A setting's value for a person."""
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


def _pictures(run: Run) -> str:
    snapshot = run.snapshot
    return f"{snapshot['dataset_title']}, {len(snapshot['pictures'])}, version {snapshot['sha256'][:6]}"


def steps_in_common(runs: Sequence[Run]) -> list[int]:
    """At which steps every run has drawn samples; 0 is the base alone."""
    return sorted(set.intersection(*(set(run.samples()) for run in runs)))


def prompts_in_common(runs: Sequence[Run]) -> list[tuple[str, tuple[int, ...]]]:
    """(prompt with "[trigger]" for the run's own word, its row in each run), in the order of the first run."""
    rows = []
    for run in runs:
        config = run.config
        said = [to_placeholder(prompt, config.dataset.trigger_word) for prompt in config.samples.prompts]
        rows.append({prompt: said.index(prompt) for prompt in said})
    return [(prompt, tuple(each[prompt] for each in rows)) for prompt in rows[0] if all(prompt in each for each in rows)]
