"""What the Dataset tab says about imports, and what it removes, while other datasets and imports are about."""

import os

import pytest

from studio.core.access import Access, Mode
from studio.core.errors import StudioError
from studio.datasets.dataset import Dataset
from studio.jobs.queue import Jobs
from studio.ui import app as ui
from studio.ui.components.following import Followed
from studio.ui.tabs.dataset_captions import show_captioned
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


@pytest.mark.parametrize("name", ["write_captions", "write_with", "create", "add_to_dataset", "import_images", "save_zip", "save_folder"])
def test_a_job_that_starts_while_others_are_followed_is_followed_besides_them(home, name):
    """Otherwise the results of the earlier ones would never be shown."""
    app, _ = ui.build_app(home, Access(mode=Mode.local))
    found = [event for event in app.fns.values() if event.fn and event.fn.__name__ == name and event.api_visibility != "public"]
    followed = {event.inputs[0] for event in app.fns.values() if event.fn and event.fn.__name__ == "changed"}
    assert found and all(followed & set(event.inputs) & set(event.outputs) for event in found)


def test_the_captions_of_two_datasets_have_a_result_each(home, jobs):
    workspace = home.workspace("local")
    ink, oil = Dataset.create(workspace, "Ink"), Dataset.create(workspace, "Oil")
    made = [jobs.submit("local", "caption", {"dataset": each.id, "captioner": "builtin"}) for each in (ink, oil)]
    assert show_captioned(made, workspace, oil.id) == ""
    jobs.claim_one(made[0].id, os.getpid())
    jobs.finish(made[0].id, {"captioned": 3, "kept": 1, "failed": 0})
    jobs.claim_one(made[1].id, os.getpid())
    jobs.fail(made[1].id, "It was too dark.")
    shown = show_captioned([jobs.get(each.id) for each in made], workspace, oil.id)
    assert shown.index("Ink") < shown.index("3 captions written") < shown.index("It was too dark.") and "Oil" not in shown


def test_two_datasets_made_at_once_have_a_result_each(home, jobs, look):
    workspace = home.workspace("local")
    ink, oil = Dataset.from_samples(workspace, "style"), Dataset.from_samples(workspace, "character")
    ended = [end(jobs, begin(jobs, each)) for each in (ink, oil)]
    shown = str(look(Followed(tuple(job.id for job in ended)), Visitor(), oil.id))
    assert shown.count("poem.txt is not an image") == 2 and ink.title in shown


def test_a_name_that_another_page_has_changed_is_not_written_back_when_its_field_is_left(home):
    app, _ = ui.build_app(home, Access(mode=Mode.local))
    rename = next(event for event in app.fns.values() if event.fn and event.fn.__qualname__ == "wire_about.<locals>.rename").fn
    workspace = home.workspace("local")
    dataset = Dataset.create(workspace, "Ink")
    Dataset.open(workspace, dataset.id).update_facts(title="Ink, newer")
    rename("Ink", "Ink", dataset.id, Visitor())
    assert Dataset.open(workspace, dataset.id).title == "Ink, newer"
    _, base = rename("Ink, mine", "Ink", dataset.id, Visitor())
    assert Dataset.open(workspace, dataset.id).title == base == "Ink, mine"


def test_a_new_dataset_whose_images_were_all_removed_during_its_import_stays(home, jobs, look):
    workspace = home.workspace("local")
    dataset = Dataset.from_samples(workspace, "style")
    dataset.remove([each.id for each in dataset.images])
    look(Followed((end(jobs, begin(jobs, dataset)).id,)), Visitor(), dataset.id)
    assert Dataset.open(workspace, dataset.id).removed
