"""Trash of a workspace: removed datasets, runs, LoRAs, presets and images with their titles. No torch."""

from collections.abc import Callable

from studio.config.recipe import read_recipe
from studio.core.damage import readable_name
from studio.core.errors import StudioError
from studio.core.workspace import RUNS, Trashed, Workspace
from studio.datasets.dataset import Dataset
from studio.runs import starting_points
from studio.runs.run import ADAPTER_NAME, Run

UNTITLED = "An image without a prompt"


def _prompt(item: Trashed) -> str:
    """The prompt of a generated image."""
    try:
        return read_recipe(item.content.read_bytes()).prompt or UNTITLED
    except (StudioError, OSError):
        return UNTITLED


def _adapter(item: Trashed) -> str:
    """A LoRA or the description beside one. Both are removed only because they are damaged, so they are known by where they were."""
    file = item.original
    owner, step = file.parent.parent, ADAPTER_NAME.fullmatch(file.name)
    if owner.parent.name == RUNS and step:
        return f"{Run(owner).title}, step {int(step[1]):,} (damaged)"
    return f"{'description of ' if file.suffix == '.json' else ''}{readable_name(file)} (damaged)"


TITLES: dict[str, Callable[[Trashed], str]] = {
    "datasets": lambda item: Dataset(item.content).title,
    "runs": lambda item: Run(item.content).title,
    "adapters": _adapter,
    "presets": lambda item: starting_points.read_title(item.content),
    "images": _prompt,
}
"""Folder of a workspace, or of a run -> function that finds the title of an item removed from it."""


def list_removed(workspace: Workspace, *kinds: str) -> list[tuple[Trashed, str]]:
    """(item, title) of the given kinds, or of all kinds, last removed first."""
    found = ((each, each.original.parent.name) for each in workspace.trashed())
    return [(each, _title(each, kind)) for each, kind in found if kind in (kinds or TITLES)]


def _title(item: Trashed, kind: str) -> str:
    """Something that was set aside because it is damaged is known by the name of its folder."""
    try:
        return TITLES[kind](item)
    except (StudioError, OSError):
        return f"{readable_name(item.original)} (damaged)"
