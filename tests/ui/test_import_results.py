"""What the Dataset tab says about imports, and what it removes, while other datasets and imports are about."""

import os

import pytest

from studio.core.access import Access, Mode
from studio.core.errors import StudioError
from studio.datasets.dataset import Dataset
from studio.jobs.queue import Jobs
from studio.ui import app as ui
from studio.ui.components.following import Followed
from studio.ui.tabs.dataset_images import show_imports

NOTHING = {"added": 0, "captions": 0, "masks": 0, "refused": [{"name": "poem.txt", "reason": "poem.txt is not an image."}], "notes": []}


class Visitor:
    headers: dict[str, str] = {}


@pytest.fixture
def jobs(home):
    return Jobs(home.database)


def begin(jobs, dataset):
    return jobs.submit("local", "import", {"dataset": dataset.id, "files": []})


def end(jobs, job):
    jobs.claim_one(job.id, os.getpid())
    assert jobs.finish(job.id, NOTHING)
    return jobs.get(job.id)


@pytest.fixture
def look(home):
    """Call the handler that follows the imports of the drop zone."""
    app, _ = ui.build_app(home, Access(mode=Mode.local))
    create = next(event for event in app.fns.values() if event.fn and event.fn.__qualname__ == "wire_zone.<locals>.create")
    signal = create.outputs[1]._id
    return next(event.fn for event in app.fns.values() if (signal, "changed") in event.targets)


def test_the_result_of_an_import_into_another_dataset_is_named_after_it(home, jobs):
    workspace = home.workspace("local")
    ink, oil = Dataset.create(workspace, "Ink"), Dataset.create(workspace, "Oil")
    ended = [end(jobs, begin(jobs, each)) for each in (ink, oil)]
    shown = show_imports(ended, workspace, oil.id)
    assert shown.count("poem.txt") == 2 and "Ink" in shown and "Oil" not in shown
    workspace.remove(ink.path)
    assert "Removed dataset" in show_imports(ended, workspace, oil.id)


def test_a_dataset_without_a_usable_file_is_removed_once_no_import_into_it_is_left(home, jobs, look):
    workspace = home.workspace("local")
    dataset = Dataset.create(workspace, "Ink")
    first, second = begin(jobs, dataset), begin(jobs, dataset)
    end(jobs, first)
    look(Followed((first.id,), dataset.id), Visitor(), dataset.id)
    assert Dataset.open(workspace, dataset.id)
    end(jobs, second)
    look(Followed((second.id,), dataset.id), Visitor(), dataset.id)
    with pytest.raises(StudioError, match="no longer exists"):
        Dataset.open(workspace, dataset.id)
