"""Starting points for training: shipped presets, the user's saved presets, and the settings of earlier runs. No torch."""

import hashlib
import time
import tomllib
from pathlib import Path

from studio import config as configs
from studio import families
from studio.config import Preset, TrainConfig, fields, shipped_presets, toml
from studio.config.foreign import DATASET_SETTINGS
from studio.core.errors import StudioError
from studio.core.workspace import Workspace, slug, write_atomically
from studio.datasets.dataset import Dataset
from studio.datasets.importing.images import clean_text
from studio.datasets.trigger_words import to_placeholder
from studio.runs.run import Run

MINE, RUN = "mine:", "run:"
LONGEST_TITLE = 80
MOST, RUNS_SHOWN = 100, 8


def build_config(workspace: Workspace, dataset: Dataset, name: str = "", *overrides: str, memory: str = "") -> TrainConfig:
    """Config for this dataset from a starting point (shipped, mine:<name>, run:<id>; empty: the fitting shipped preset)."""
    if not name.startswith((MINE, RUN)):
        return configs.for_dataset(dataset, name, *overrides, overlay=memory)
    return configs.fit_to_dataset(find(workspace, name), dataset, *overrides, overlay=memory)


def find(workspace: Workspace, name: str) -> Preset:
    if name.startswith(MINE):
        return _load_saved(workspace.preset_path(name.removeprefix(MINE)))
    if name.startswith(RUN):
        return _from_run(Run.open(workspace, name.removeprefix(RUN)))
    return shipped_presets.get(name)


def saved_presets(workspace: Workspace) -> list[Preset]:
    """Saved presets by title. An unreadable file is listed as such, so that the user can remove it."""
    found = []
    for path in workspace.presets.glob("*.toml"):
        try:
            found.append(_load_saved(path))
        except StudioError as error:
            found.append(Preset(MINE + path.stem, f"{path.stem} (cannot be read)", str(error), "unknown", "", "", "", path))
    return sorted(found, key=lambda preset: preset.title.casefold())


def list_choices(workspace: Workspace, subject: str, base_model: str = "") -> list[tuple[str, str]]:
    """(title, name) of the starting points for this subject and base: the two shipped presets, saved presets, then the newest runs.

    For a base of unknown family, the shipped presets of every family, so that the user can choose the family.
    """
    fitting = shipped_presets.get(configs.fitting_preset(subject, base_model))
    known = not base_model or families.detect(base_model) or fitting.base_model == base_model
    shipped = [p for p in configs.presets() if p.subject == subject and (not known or p.name in (fitting.name, fitting.name + shipped_presets.QUICK))]
    runs = [(f"Settings of the run {run.title}, {_format_date(run)}", RUN + run.id) for run in Run.all(workspace)[:RUNS_SHOWN]]
    return [*((p.title, p.name) for p in shipped), *((f"{p.title} (yours)", p.name) for p in saved_presets(workspace)), *runs]


def save(workspace: Workspace, title: str, config: TrainConfig, images: int = 0, replace: bool = False, suggest: bool = False) -> Preset:
    """Save settings as a preset: values that differ from the defaults, except those that belong to the dataset.

    A number of steps equal to the suggestion for that many `images` is not saved and stays a suggestion; with `suggest`, any number of steps.
    An existing preset is only replaced with `replace`.
    """
    title = clean_text(title, LONGEST_TITLE)
    if not title:
        raise StudioError("The preset has no title; give one, for example “Ink, slow”.")
    # A title in another script may have no characters for a file name; then its hash is used.
    path = workspace.preset_path(slug(title, "") or f"preset-{hashlib.sha256(title.encode()).hexdigest()[:8]}")
    if path.exists() and not replace:
        existing = tomllib.loads(path.read_text(encoding="utf-8")).get("preset", {}).get("title", path.stem)
        raise StudioError(f"There is already a preset {existing!r}. Tick Replace (--replace on the command line), or choose another title.")
    if not path.exists() and len(list(workspace.presets.glob("*.toml"))) >= MOST:
        raise StudioError(f"You have {MOST} saved presets, which is the limit; remove one first.")
    values = non_default_values(config)
    values[shipped_presets.STEPS] = config.training.max_train_steps
    if suggest or (images and config.training.max_train_steps == configs.suggested_steps(config, images)):
        del values[shipped_presets.STEPS]
    if config.samples.prompts:
        values["samples.prompts"] = [to_placeholder(prompt, config.dataset.trigger_word) for prompt in config.samples.prompts]
    offer = families.offer(config.model.base_model)
    header = {"title": title, "description": f"Your own settings for {offer.name if offer else config.model.base_model}.", "measured": "estimated"}
    text = toml.dumps(
        {"preset": header, **fields.unflatten(values)}, "Preset saved in LoRA Studio; contains only values that differ from the defaults."
    )
    write_atomically(path, text.encode())
    return _load_saved(path)


def remove(workspace: Workspace, name: str) -> str:
    """Move a saved preset to the trash; returns the id for `Workspace.restore`. Other starting points cannot be removed."""
    if not name.startswith(MINE):
        raise StudioError(f"{name!r} is a shipped preset or a run and cannot be removed here; only saved presets can.")
    return workspace.remove(workspace.preset_path(name.removeprefix(MINE)))


def non_default_values(config: TrainConfig) -> dict:
    """Path -> value of every setting that differs from its default, without those that belong to the dataset."""
    found = {}
    for leaf in fields.leaves(config):
        value = fields.get(config, leaf.path)
        follows_rank = leaf.path == "lora.alpha" and value == config.lora.rank
        if value != leaf.default and not follows_rank and (leaf.path not in DATASET_SETTINGS or leaf.path == "dataset.subject"):
            found[leaf.path] = value
    return found


def read_title(path: Path) -> str:
    """Title in a preset's file, also when the file is in the trash."""
    try:
        return str(tomllib.loads(path.read_text(encoding="utf-8"))["preset"]["title"])
    except (OSError, ValueError, KeyError, TypeError):
        return "A preset"


def _load_saved(path: Path) -> Preset:
    values = shipped_presets.read(path)
    if path.stat().st_size == 0:
        raise StudioError(f"{path.name} is empty; remove it, or restore it from a backup.")
    about = tomllib.loads(path.read_text(encoding="utf-8")).get("preset", {})
    values.pop("version", None)
    return shipped_presets.from_tables(MINE + path.stem, path, about, values)


def _from_run(run: Run) -> Preset:
    """A run's requested settings, without automatic choices; its prompts without its trigger word."""
    values = fields.flatten(run.requested.model_dump(exclude={"version"}))
    values["samples.prompts"] = [to_placeholder(prompt, run.requested.dataset.trigger_word) for prompt in run.requested.samples.prompts]
    about = {
        "title": f"Settings of the run {run.title}",
        "description": f"As in the run {run.title}, {_format_date(run)}.",
        "measured": "those of that run",
    }
    return shipped_presets.from_tables(RUN + run.id, run.path, about, fields.unflatten(values))


def _format_date(run: Run) -> str:
    return time.strftime("%d %b %H:%M", time.localtime(run.snapshot["created"]))
