"""What was removed from a workspace and can be put back, by the titles people know. No torch."""

from collections.abc import Callable

from studio.core.workspace import Trashed, Workspace
from studio.datasets.dataset import Dataset
from studio.runs import starting_points
from studio.runs.run import Run

TITLES: dict[str, Callable] = {
    "datasets": lambda path: Dataset(path).title,
    "runs": lambda path: Run(path).title,
    "presets": starting_points.read_title,
}
"""Folder of a workspace -> the title of what was removed from it."""


def list_removed(workspace: Workspace, *kinds: str) -> list[tuple[Trashed, str]]:
    """(what, its title) of some kinds, or of all, newest removal first."""
    found = ((each, each.original.parent.name) for each in workspace.trashed())
    return [(each, TITLES[kind](each.content)) for each, kind in found if kind in (kinds or TITLES)]
