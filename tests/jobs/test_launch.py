"""Trainings begin: all that were asked for or none, a double click once, and copies learn from the very same pictures."""

import threading

import pytest

from studio import config as configs
from studio.core.errors import StudioError
from studio.datasets.dataset import Dataset
from studio.jobs import launch
from studio.jobs.launch import TrainingRequest
from studio.jobs.queue import Jobs
from studio.runs.run import Run
from tests.trained import finished_run


@pytest.fixture
def jobs(home) -> Jobs:
    return Jobs(home.database)


@pytest.fixture
def dataset(workspace) -> Dataset:
    return Dataset.from_samples(workspace, "style")


def wanted(dataset: Dataset, *ranks: int) -> list[TrainingRequest]:
    return [TrainingRequest(configs.for_dataset(dataset, "", f"lora.rank={rank}"), f"Ink, rank {rank}") for rank in ranks]


def test_several_runs_are_queued_in_the_order_they_were_asked_for(workspace, jobs, dataset):
    made = launch.train(workspace, jobs, dataset, wanted(dataset, 8, 16, 32))
    assert [run.config.lora.rank for run, _ in made] == [8, 16, 32]
    assert [job.payload["run"] for job in jobs.queue()] == [run.id for run, _ in made]


def test_when_one_run_cannot_begin_none_does(workspace, jobs, dataset):
    impossible = TrainingRequest(configs.for_dataset(dataset, "", "lora.start_from=file:gone"), "Gone")
    with pytest.raises(StudioError, match="There is no LoRA 'file:gone'"):
        launch.train(workspace, jobs, dataset, [*wanted(dataset, 8), impossible])
    assert jobs.list() == [] and not list(workspace.runs.iterdir())


def test_what_a_visitor_may_not_queue_is_not_begun_in_part(home, jobs):
    visitor = home.workspace("visitor")
    dataset = Dataset.from_samples(visitor, "style")
    with pytest.raises(StudioError, match="one training run at a time"):
        launch.train(visitor, jobs, dataset, wanted(dataset, 8, 16))
    assert jobs.list() == [] and Run.all(visitor) == []


def test_sixteen_clicks_at_once_are_one_run(workspace, jobs, dataset):
    made = []
    threads = [threading.Thread(target=lambda: made.extend(launch.train(workspace, jobs, dataset, wanted(dataset, 8)))) for _ in range(16)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(made) == 16 and len({run.id for run, _ in made}) == len({job.id for _, job in made}) == 1
    assert len(Run.all(workspace)) == len(jobs.list()) == 1


def test_the_same_again_is_a_new_run_once_the_first_is_over_or_anything_differs(workspace, jobs, dataset):
    first = launch.train(workspace, jobs, dataset, wanted(dataset, 8))[0][0]
    assert launch.train(workspace, jobs, dataset, wanted(dataset, 16))[0][0].id != first.id
    dataset.set_caption(dataset.images[0].id, "ohwx illustration of something else", "hand")
    assert launch.train(workspace, jobs, dataset, wanted(dataset, 8))[0][0].id != first.id
    for job in jobs.list():
        jobs.cancel(job.id)
    assert launch.train(workspace, jobs, dataset, wanted(dataset, 8))[0][0].id != first.id


def test_a_run_again_has_its_pictures_as_they_were_and_what_was_asked_for(workspace, jobs, dataset):
    first = launch.train(workspace, jobs, dataset, wanted(dataset, 8))[0][0]
    config = first.config
    first.write_config(config.model_copy(update={"runtime": config.runtime.model_copy(update={"device": "cpu", "threads": 1})}))
    workspace.remove(dataset.path)
    (again, job), (other, _) = launch.train_again(workspace, jobs, first, ["lora.rank=4,32", "training.seed=9"])
    assert [again.title, other.title] == ["Ink, rank 4", "Ink, rank 32"]
    assert again.snapshot["pictures"] == first.snapshot["pictures"] and job.payload["run"] == again.id
    assert all((again.dataset_dir / "pictures" / each["file"]).read_bytes() for each in again.snapshot["pictures"])
    assert (again.config.lora.rank, again.config.lora.alpha, again.config.training.seed) == (4, 4, 9)
    assert again.config.runtime.threads is None, "what the machine decided for the first is decided anew"
    assert launch.train_again(workspace, jobs, first)[0][0].title == "Ink, rank 8, again"


def test_a_failed_run_is_tried_again_with_what_it_proposes(workspace, jobs):
    run = finished_run(workspace, "training.train_batch_size=2", "lora.rank=16")
    proposals = [
        {"title": "batch size 1 instead of 2", "set": {"training.train_batch_size": 1}},
        {"title": "rank 8", "set": {"lora.rank": 8, "runtime.quantisation": None}},
    ]
    run.append({"kind": "started", "step": 0, "total": 200})
    run.append({"kind": "failed", "step": 3, "message": "The memory is not enough.", "retries": proposals})
    assert run.retries() == proposals
    smaller, job = launch.retry(workspace, jobs, run, 0)
    assert (smaller.title, smaller.config.training.train_batch_size, job.state) == ("Ink, train batch size 1", 1, "waiting")
    assert launch.retry(workspace, jobs, run, 0)[0].id == smaller.id, "two clicks"
    assert launch.retry(workspace, jobs, run, 1)[0].config.lora.alpha == 8
    with pytest.raises(StudioError, match="has no suggestion 2"):
        launch.retry(workspace, jobs, run, 2)
    run.append({"kind": "started", "step": 3, "total": 200})
    assert run.retries() == [], "it is learning again"
