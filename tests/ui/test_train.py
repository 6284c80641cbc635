"""The Train form: numbers that fit the base, words about what will not work, and no run left behind by a refusal."""

import pytest
from gradio.components import FormComponent

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
from studio.ui.tabs import train, train_sweep
from tests.trained import finished_run

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


def test_several_values_make_whole_configs_that_are_checked_before_any_is_queued(dataset):
    config = configs.for_dataset(dataset)
    made = train_sweep.plan(dataset, config, "Ink", False, [("lora.rank", "8, 32"), ("training.seed", "1,2")])
    assert [each.title for each in made] == [f"Ink, rank {rank}, seed {seed}" for rank in (8, 32) for seed in (1, 2)]
    assert [each.config.lora.alpha for each in made] == [8, 8, 32, 32] and {each.config.dataset.id for each in made} == {dataset.id}
    kept = train_sweep.plan(dataset, config, "", True, [("lora.rank", "8,32"), ("", "")])
    assert [each.config.lora.alpha for each in kept] == [config.lora.alpha] * 2 and kept[0].title == "Sample style, rank 8"
    assert train_sweep.plan(dataset, config, "", False, [("lora.rank", " "), ("", "")]) == []
    with pytest.raises(StudioError, match="batch size.: 'many' does not fit"):
        train_sweep.plan(dataset, config, "", False, [("training.train_batch_size", "1, many")])


def test_the_sum_of_several_values_is_told_before_they_are_queued(dataset, workspace):
    made = train_sweep.plan(dataset, configs.for_dataset(dataset), "Ink", False, [("lora.rank", "8,16,32")])
    assert "3 runs, time shown after the first steps" in train_sweep.told(workspace, made)
    run = Run.create(workspace, configs.for_dataset(dataset), dataset)
    run.append({"kind": "step", "step": 1, "loss": 0.1, "seconds_per_step": 1.3})
    assert "3 runs, about 23 minutes in all" in train_sweep.told(workspace, made) and "Ink, rank 32" in train_sweep.told(workspace, made)


def test_only_settings_with_one_value_can_be_tried_with_several():
    offered = {path for _, path in train_sweep.choices()}
    assert {"lora.rank", "training.learning_rate", "training.optimizer", "dataset.flip"} <= offered
    assert not {"samples.prompts", "lora.target_modules", "prior.prompt", "dataset.id", "dataset.trigger_word", "lora.start_from"} & offered


def values(shown: list, components: list) -> dict:
    """What a handler puts into the fields, by their labels."""
    fields = [(component.label, value) for component, value in zip(components, shown) if isinstance(component, FormComponent)]
    return {label: value.get("value") if isinstance(value, dict) else value for label, value in fields}


@pytest.fixture
def fill(home):
    """`fill("copy", run, dataset)` -> the form after that button, by label."""
    app, _ = ui.build_app(home, Access())

    def press(name, run, dataset_id):
        event = next(event for event in app.fns.values() if event.fn and event.fn.__name__ == name and event.fn.__module__.endswith("train_like"))
        return values(event.fn(run.id, dataset_id, Request()), event.outputs)

    return press


def test_a_runs_settings_fill_the_form_with_its_own_pictures(fill, workspace, dataset):
    other = Dataset.from_samples(workspace, "character")
    config = configs.for_dataset(other, "", "lora.rank=4", "lora.alpha=2", "training.max_train_steps=77")
    run = Run.create(workspace, config, other, "Pim")
    run.write_config(config.model_copy(update={"runtime": config.runtime.model_copy(update={"threads": 1})}))
    form = fill("copy", run, dataset.id)
    assert (form["Pictures"], form["Steps"], form["Push (alpha)"], form["Processor threads"]) == (other.id, 77, 2, None)
    workspace.remove(other.path)
    assert fill("copy", run, dataset.id)["Pictures"] == dataset.id


def test_starting_from_a_lora_keeps_the_chosen_pictures_and_takes_its_shape(fill, workspace, dataset):
    run = finished_run(workspace, "lora.rank=4")
    form = fill("begin", run, dataset.id)
    assert (form["Pictures"], form["Detail it can hold (rank)"], form["Start from a LoRA"]) == (dataset.id, 4, f"run:{run.id}@200")
