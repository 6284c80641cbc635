"""Removal can be undone, also after the page or the studio was closed."""

import pytest

from studio.core.errors import StudioError
from studio.datasets.dataset import Dataset
from studio.runs import trash
from studio.ui.components import removed
from tests.trained import finished_run


def test_removed_items_are_listed_by_title_and_kind(workspace):
    run, dataset = finished_run(workspace), Dataset.create(workspace, "Chalk <b>drawings</b>")
    title = run.title
    for path in (run.path, dataset.path):
        workspace.remove(path)
    assert [title for _, title in trash.list_removed(workspace, "runs")] == [title]
    shown = removed.listing(workspace, "datasets")
    assert "Chalk &lt;b&gt;drawings&lt;/b&gt;" in shown and title not in shown
    ((gone, _),) = trash.list_removed(workspace, "datasets")
    workspace.restore(gone.id)
    assert removed.listing(workspace, "datasets") == "" and dataset.path.exists()


def test_permanent_deletion_leaves_no_bytes(workspace):
    dataset = Dataset.from_samples(workspace, "style")
    trashed = workspace.remove(dataset.path)
    workspace.erase(trashed)
    assert not list(workspace.trash.iterdir()) and not dataset.path.exists()
    for action in (workspace.erase, workspace.restore):
        with pytest.raises(StudioError, match="already restored"):
            action(trashed)


def test_only_items_in_the_trash_can_be_deleted_permanently(workspace):
    for name in ("../datasets", "..", "", "a/b"):
        with pytest.raises(StudioError):
            workspace.erase(name)
