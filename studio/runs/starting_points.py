"""Every starting point that an owner can choose for a training: the presets that ship, those they saved themselves, and their runs. No torch."""

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


def settings(workspace: Workspace, dataset: Dataset, name: str = "", *overrides: str, memory: str = "") -> TrainConfig:
    """The config for these pictures by the name of a starting point (shipped, mine:<name>, run:<id>; empty: the fitting one)."""
    if not name.startswith((MINE, RUN)):
        return configs.for_dataset(dataset, name, *overrides, overlay=memory)
    return configs.fit_to_dataset(find(workspace, name), dataset, *overrides, overlay=memory)


def find(workspace: Workspace, name: str) -> Preset:
    if name.startswith(MINE):
        return _own(workspace.preset_path(name.removeprefix(MINE)))
    if name.startswith(RUN):
        return _of_run(Run.open(workspace, name.removeprefix(RUN)))
    return shipped_presets.get(name)


def own(workspace: Workspace) -> list[Preset]:
    """What an owner saved, by title. A file that cannot be read is listed as such, since it is still theirs to remove."""
    found = []
    for path in workspace.presets.glob("*.toml"):
        try:
            found.append(_own(path))
        except StudioError as error:
            found.append(Preset(MINE + path.stem, f"{path.stem} (cannot be read)", str(error), "unknown", "", "", "", path))
    return sorted(found, key=lambda preset: preset.title.casefold())


def goals(workspace: Workspace, subject: str, base_model: str = "") -> list[tuple[str, str]]:
    """(title, name) of what can be chosen for these pictures and this base: its two paces, then one's own, then the newest runs.

    For a base nobody here knows before it is fetched, the paces of every family, so that a person can say which it is.
    """
    fitting = shipped_presets.get(configs.fitting_preset(subject, base_model))
    known = not base_model or families.detect(base_model) or fitting.base_model == base_model
    paces = [p for p in configs.presets() if p.subject == subject and (not known or p.name in (fitting.name, fitting.name + shipped_presets.QUICK))]
    runs = [(f"Settings of the run {run.title}, {_when(run)}", RUN + run.id) for run in Run.all(workspace)[:RUNS_SHOWN]]
    return [*((p.title, p.name) for p in paces), *((f"{p.title} (yours)", p.name) for p in own(workspace)), *runs]


def save(workspace: Workspace, title: str, config: TrainConfig, pictures: int = 0, replace: bool = False, suggest: bool = False) -> Preset:
    """Keep settings under a title: what differs from the defaults, but for what belongs to the pictures.

    Steps that are the suggested ones for so many `pictures` stay a suggestion, any do with `suggest`. A preset that is there is only replaced
    when that is said.
    """
    title = clean_text(title, LONGEST_TITLE)
    if not title:
        raise StudioError("The preset has no name; give it one, for example Ink, slow.")
    # A title in another script has no letters for a file name; its hash is one.
    path = workspace.preset_path(slug(title, "") or f"preset-{hashlib.sha256(title.encode()).hexdigest()[:8]}")
    if path.exists() and not replace:
        there = tomllib.loads(path.read_text(encoding="utf-8")).get("preset", {}).get("title", path.stem)
        raise StudioError(f"You have a preset {there!r} already. Tick Replace (--replace on the command line), or choose another name.")
    if not path.exists() and len(list(workspace.presets.glob("*.toml"))) >= MOST:
        raise StudioError(f"You have {MOST} presets already, which is as many as are kept; remove one first.")
    values = differing(config)
    values[shipped_presets.STEPS] = config.training.max_train_steps
    if suggest or (pictures and config.training.max_train_steps == configs.suggested_steps(config, pictures)):
        del values[shipped_presets.STEPS]
    if config.samples.prompts:
        values["samples.prompts"] = [to_placeholder(prompt, config.dataset.trigger_word) for prompt in config.samples.prompts]
    offer = families.offer(config.model.base_model)
    about = {"title": title, "description": f"Your own settings for {offer.name if offer else config.model.base_model}.", "measured": "estimated"}
    text = toml.dumps({"preset": about, **fields.unflatten(values)}, "A preset saved in LoRA Studio; says only what differs from the defaults.")
    write_atomically(path, text.encode())
    return _own(path)


def remove(workspace: Workspace, name: str) -> str:
    """Into the trash; returns what `Workspace.restore` takes. Only one's own can be removed."""
    if not name.startswith(MINE):
        raise StudioError(f"{name!r} ships with the studio or is a run, so it cannot be removed here; only presets that you saved can.")
    return workspace.remove(workspace.preset_path(name.removeprefix(MINE)))


def differing(config: TrainConfig) -> dict:
    """Path -> value of every setting that is not as it would be unsaid, without those that belong to the pictures."""
    found = {}
    for leaf in fields.leaves(config):
        value = fields.get(config, leaf.path)
        follows_rank = leaf.path == "lora.alpha" and value == config.lora.rank
        if value != leaf.default and not follows_rank and (leaf.path not in DATASET_SETTINGS or leaf.path == "dataset.subject"):
            found[leaf.path] = value
    return found


def title_of(path: Path) -> str:
    """Of a preset's file, wherever it lies now."""
    try:
        return str(tomllib.loads(path.read_text(encoding="utf-8"))["preset"]["title"])
    except (OSError, ValueError, KeyError, TypeError):
        return "A preset"


def _own(path: Path) -> Preset:
    values = shipped_presets.read(path)
    about = tomllib.loads(path.read_text(encoding="utf-8")).get("preset", {})
    values.pop("version", None)
    return shipped_presets.from_tables(MINE + path.stem, path, about, values)


def _of_run(run: Run) -> Preset:
    """A run's settings as they were asked for, so without what its machine chose; its prompts without its trigger word."""
    values = fields.flatten(run.asked.model_dump(exclude={"version"}))
    values["samples.prompts"] = [to_placeholder(prompt, run.asked.dataset.trigger_word) for prompt in run.asked.samples.prompts]
    about = {"title": f"Settings of the run {run.title}", "description": f"As in the run {run.title}, {_when(run)}.", "measured": "those of that run"}
    return shipped_presets.from_tables(RUN + run.id, run.path, about, fields.unflatten(values))


def _when(run: Run) -> str:
    return time.strftime("%d %b %H:%M", time.localtime(run.snapshot["created"]))
