"""The Train form: numbers that fit the base, words about what will not work, and no run left behind by a refusal."""

import pytest

from studio import config as configs
from studio import ui
from studio.access import Access
from studio.dataset import Dataset
from studio.errors import StudioError
from studio.families import BUILTIN_ID
from studio.jobs import Jobs
from studio.runs import Run
from studio.starts import Wanted
from studio.ui.studio import Studio
from studio.ui.tabs import train

SD15 = "stable-diffusion-v1-5/stable-diffusion-v1-5"


class Request:
    headers = {}


@pytest.fixture
def dataset(workspace) -> Dataset:
    return Dataset.from_samples(workspace, "style")


@pytest.fixture
def handler(home):
    app, _ = ui.build_app(home, Access())
    return lambda name: next(event.fn for event in app.fns.values() if event.fn and event.fn.__name__ == name)


def test_a_base_of_another_size_brings_its_own_numbers(handler, dataset):
    for base, present in ((SD15, "small-world-style"), ("somebody/their-own-base", "small-world-style"), (BUILTIN_ID, "stable-diffusion-style")):
        shown = handler("take_base")(dataset.id, present, base, Request())
        config = configs.preset(configs.fitting_preset("style", base))
        values = [value.get("value") if isinstance(value, dict) else value for value in shown]
        assert base in values and config.training.learning_rate in values and config.training.max_train_steps in values
        assert config.dataset.resolution in values


def test_between_two_bases_of_a_size_what_was_typed_stays(handler, dataset):
    shown = handler("take_base")(dataset.id, "stable-diffusion-style", "somebody/their-own-base", Request())
    assert [value for value in shown if not isinstance(value, dict) or "value" in value] == [next(v for v in shown if isinstance(v, str))]


def test_photographs_before_a_base_of_shapes_are_said_for_the_base_that_is_chosen(dataset, monkeypatch):
    class Photo:
        looks_like_photo = True

    monkeypatch.setattr(Dataset, "pictures", [Photo()])
    assert "draws simple shapes only" in train.describe("stable-diffusion-style", dataset, BUILTIN_ID)
    assert "draws simple shapes only" not in train.describe("small-world-style", dataset, SD15)


def test_what_the_queue_refuses_leaves_no_run(home, dataset, workspace, monkeypatch):
    studio = Studio(home, Access(), Jobs(home.database))

    def full(*_, **__):
        raise StudioError("You have 8 jobs that wait or run.")

    monkeypatch.setattr(Jobs, "submit_all", full)
    with pytest.raises(StudioError, match="8 jobs"):
        studio.train("local", dataset, [Wanted(configs.for_dataset(dataset), "")])
    assert Run.all(workspace) == [] and not list(workspace.runs.iterdir())
