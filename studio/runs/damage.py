"""Things of a workspace that cannot be read because a file of theirs was cut, garbled or replaced. Each costs itself alone: lists show the rest."""

import functools
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

from studio.adapters.format import fingerprint
from studio.adapters.header import read_header
from studio.config.recipe import read_recipe
from studio.core import damage
from studio.core.damage import readable_name
from studio.core.errors import StudioError
from studio.core.workspace import ORIGIN, Workspace
from studio.datasets.dataset import Dataset
from studio.runs import library, starting_points
from studio.runs.run import Run

NEWEST_IMAGES = 120
"""As many as the history reads."""


@dataclass(frozen=True)
class DamagedThing:
    """`path` is what is set aside, a folder or a file. `movable` is false for what lies in the trash already."""

    kind: str
    title: str
    path: Path
    reason: str
    movable: bool = True


def find(workspace: Workspace) -> list[DamagedThing]:
    """Everything that the lists leave out, with the reason."""
    return [*_datasets(workspace), *_runs(workspace), *_adapters(workspace), *_presets(workspace), *_images(workspace), *_trash(workspace)]


def set_aside(workspace: Workspace, name: str) -> str:
    """Move a damaged thing, by its path in the workspace, to the trash; returns the id that `Workspace.restore` takes. Nothing is deleted."""
    for thing in find(workspace):
        if thing.movable and place(workspace, thing) == name:
            return workspace.remove(thing.path)
    raise StudioError("This is no longer damaged, or was already set aside; reload the page.")


def place(workspace: Workspace, thing: DamagedThing) -> str:
    """Where it is in the workspace."""
    return thing.path.relative_to(workspace.root).as_posix()


def _datasets(workspace: Workspace) -> Iterator[DamagedThing]:
    for dataset in Dataset.folders(workspace):
        if dataset.damage:
            yield DamagedThing("dataset", _title(dataset), dataset.path, dataset.damage)


def _runs(workspace: Workspace) -> Iterator[DamagedThing]:
    for run in Run.folders(workspace):
        if run.damage:
            yield DamagedThing("run", _title(run), run.path, run.damage)
            continue
        for step, file in run.adapters():
            if reason := _problem(file, _adapter_problem):
                yield DamagedThing("LoRA", f"{run.title}, step {step:,}", file, reason)


def _adapters(workspace: Workspace) -> Iterator[DamagedThing]:
    for file in sorted(workspace.adapters.glob("*.safetensors")):
        if reason := _problem(file, _adapter_problem):
            yield DamagedThing("LoRA", readable_name(file), file, reason)
        details = file.with_suffix(".json")
        if details.exists():
            try:
                damage.read_object(details, library.METADATA)
            except damage.Damaged as error:
                yield DamagedThing("description of a LoRA", readable_name(file), details, str(error))


def _presets(workspace: Workspace) -> Iterator[DamagedThing]:
    for preset in starting_points.saved_presets(workspace):
        if preset.measured == "unknown" and preset.path:
            yield DamagedThing("preset", preset.path.stem, preset.path, preset.description)


def _images(workspace: Workspace) -> Iterator[DamagedThing]:
    newest = sorted(((path.stat().st_mtime_ns, path) for path in workspace.images.glob("*.png")), reverse=True)[:NEWEST_IMAGES]
    for _, path in newest:
        if reason := _problem(path, _image_problem):
            yield DamagedThing("image", readable_name(path), path, reason)


def _trash(workspace: Workspace) -> Iterator[DamagedThing]:
    for folder in sorted(workspace.trash.iterdir()):
        if (folder / "content").exists():
            try:
                damage.read_object(folder / "origin.json", ORIGIN)
            except damage.Damaged as error:
                yield DamagedThing(
                    "removed item",
                    folder.name,
                    folder,
                    f"{error} It cannot be restored from here; its files are in its folder “content”.",
                    movable=False,
                )


def _title(thing: Dataset | Run) -> str:
    try:
        return thing.title
    except StudioError:
        return readable_name(thing.path)


def _problem(file: Path, find_problem: Callable[[Path, tuple], str]) -> str:
    """An OSError is not kept: a file that may not be read can become readable without a change of its time or size."""
    try:
        return find_problem(file, damage.stamps(file))
    except OSError as error:
        return f"{file.name} cannot be read ({error.strerror})."


@functools.lru_cache(maxsize=1024)
def _adapter_problem(file: Path, stamps: tuple) -> str:
    """Kept until the file changes, like that of an image: every load of the page asks for all of them."""
    try:
        fingerprint(read_header(file))
    except StudioError as error:
        return str(error)
    return ""


@functools.lru_cache(maxsize=4096)
def _image_problem(path: Path, stamps: tuple) -> str:
    try:
        read_recipe(path.read_bytes())
    except StudioError as error:
        return f"{path.name}: {error}"
    return ""
