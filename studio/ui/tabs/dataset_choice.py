"""Which dataset a tab opens: the requested one if the tab offers it, else the newest that it offers."""

from studio.core.wording import counted
from studio.core.workspace import Workspace
from studio.datasets.dataset import Dataset


def choices(workspace: Workspace) -> list[tuple[str, str]]:
    """(title, id) of every dataset, newest first."""
    return [(dataset.title, dataset.id) for dataset in Dataset.all(workspace)]


def trainable_choices(workspace: Workspace) -> list[tuple[str, str]]:
    """(title, id) of the datasets with images, newest first."""
    return [(f"{each.title} ({counted(len(each.images), 'image')})", each.id) for each in Dataset.all(workspace) if each.images]


def choose(known: list[tuple[str, str]], requested: str | None) -> str | None:
    """The id among these (title, id) to open; None if there is none."""
    ids = [each for _, each in known]
    return requested if requested in ids else next(iter(ids), None)
