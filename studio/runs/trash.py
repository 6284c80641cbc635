"""Trash of a workspace: removed datasets, runs and presets with their titles. No torch."""

from collections.abc import Callable
from pathlib import Path

from studio.config.recipe import read_recipe
from studio.core.damage import readable_name
from studio.core.errors import StudioError
from studio.core.workspace import Trashed, Workspace
from studio.datasets.dataset import Dataset
from studio.runs import starting_points
from studio.runs.run import Run

UNTITLED = "An image without a prompt"


def _prompt(path: Path) -> str:
    """The prompt of a generated image."""
    try:
        return read_recipe(path.read_bytes()).prompt or UNTITLED
    except (StudioError, OSError):
        return UNTITLED


TITLES: dict[str, Callable] = {
    "datasets": lambda path: Dataset(path).title,
    "runs": lambda path: Run(path).title,
    "presets": starting_points.read_title,
    "images": _prompt,
}
"""Folder of a workspace -> function that reads the title of a removed item."""


def list_removed(workspace: Workspace, *kinds: str) -> list[tuple[Trashed, str]]:
    """(item, title) of the given kinds, or of all kinds, last removed first."""
    found = ((each, each.original.parent.name) for each in workspace.trashed())
    return [(each, _title(each, kind)) for each, kind in found if kind in (kinds or TITLES)]


def _title(item: Trashed, kind: str) -> str:
    """Something that was set aside because it is damaged is known by the name of its folder."""
    try:
        return TITLES[kind](item.content)
    except (StudioError, OSError):
        return f"{readable_name(item.original)} (damaged)"
