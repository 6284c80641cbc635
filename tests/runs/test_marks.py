"""A run has a name from its creation; the name and stars can change at any time, and no byte of its LoRA depends on them."""

import re

import pytest

from studio import config as configs
from studio.core.errors import StudioError
from studio.datasets.dataset import Dataset
from studio.jobs import launch
from studio.jobs.launch import TrainingRequest
from studio.jobs.queue import Jobs
from studio.runs import marks
from studio.runs.creation import create_run
from studio.runs.run import Run
from tests.trained import finished_run


@pytest.fixture
def dataset(workspace) -> Dataset:
    return Dataset.from_samples(workspace, "style")


def config(dataset: Dataset, *settings: str):
    return configs.for_dataset(dataset, "", "lora.rank=16", "training.max_train_steps=1500", *settings)


def test_a_run_without_a_title_gets_a_name_with_what_distinguishes_it(workspace, dataset):
    first, second = (create_run(workspace, config(dataset), dataset) for _ in range(2))
    assert re.fullmatch(r"Sample style · rank 16 · 1,500 steps · \d{1,2} [A-Z][a-z]{2}", first.title)
    assert second.title == f"{first.title}, 2"
    assert create_run(workspace, config(dataset), dataset, "Ink").title == "Ink"


def test_the_lora_file_and_the_model_card_have_neither_date_nor_rank_in_their_title(workspace, dataset):
    run = create_run(workspace, config(dataset), dataset)
    assert run.original_title == run.short_title == dataset.title
    run.rename("Ink")
    assert (run.original_title, run.short_title) == (dataset.title, "Ink")


def test_a_copy_of_a_run_with_an_automatic_name_is_named_after_its_own_settings(home, workspace, dataset):
    jobs = Jobs(home.database)
    run, _ = launch.train(workspace, jobs, dataset, [TrainingRequest(config(dataset), "")])[0]
    copies = launch.train_again(workspace, jobs, run, ["lora.rank=8", "training.learning_rate=0.001"])
    assert re.fullmatch(r"Sample style · rank 8 · 1,500 steps · learning rate 0.001 · \d{1,2} \w{3}", copies[0][0].title)
    assert " · again · " in launch.train_again(workspace, jobs, run)[0][0].title
    run.rename("Ink")
    assert launch.train_again(workspace, jobs, run, ["lora.rank=8"])[0][0].title == "Ink, rank 8"


def test_a_new_name_and_stars_leave_the_settings_and_the_dataset_untouched(workspace):
    run = finished_run(workspace)
    before = {name: (run.path / name).read_bytes() for name in ("config.json", "asked.json", "dataset/dataset.json")}
    run.rename("  Night\u202e ink ")
    run.star(True)
    run.star_step(200, True)
    run.star_step(100, True)
    run.star_step(200, False)
    opened = Run.open(workspace, run.id)
    assert opened.title == "Night ink" and opened.marks.starred and opened.marks.starred_steps == (100,)
    assert {name: (run.path / name).read_bytes() for name in before} == before
    with pytest.raises(StudioError, match="needs a name"):
        run.rename("\u202e ")
    assert opened.title == "Night ink"


@pytest.mark.parametrize("damaged", [b"", b"[1]", b'{"name": 7, "starred": "yes", "starred_steps": [true, "x", 3]}', b"\xff\xfe"])
def test_a_run_with_damaged_or_no_marks_keeps_its_first_title(workspace, damaged):
    run = finished_run(workspace, title="Ink")
    assert run.title == "Ink", "runs of earlier versions have no marks"
    (run.path / marks.NAME).write_bytes(damaged)
    assert run.title == "Ink" and not run.marks.starred
