"""Images and captions that are asked for while a training runs: who draws them, what waits, and what a kill does."""

import os
import shutil
import signal
from pathlib import Path

import pytest

from studio import config
from studio.config.recipe import Recipe, StackEntry, read_recipe
from studio.core import platform
from studio.families import resolve_base
from studio.jobs.queue import Jobs
from studio.jobs.training_process import TrainingChild
from studio.jobs.worker import Worker
from studio.runs.creation import create_run
from studio.runs.run import Run
from studio.training.checkpoints import Disk
from studio.training.loop import train
from tests.forked import forked_trainings  # noqa: F401 - a fixture
from tests.jobs.test_worker import over, training, turn_until, wait_for  # noqa: F401 - a fixture
from tests.tiny import tiny_base, tiny_run  # noqa: F401 - fixtures
from tests.trained import captioned_dataset

pytestmark = pytest.mark.usefixtures("forked_trainings")
LONG = ("training.max_train_steps=120", "samples.every=120", "saving.checkpoint_every=40")


@pytest.fixture
def jobs(home):
    return Jobs(home.database)


@pytest.fixture
def run(workspace):
    dataset = captioned_dataset(workspace, "style", "")
    return create_run(workspace, config.build({}, f"dataset.id={dataset.id}", "training.max_train_steps=60"), dataset, "Ink")


@pytest.fixture
def other_base(tiny_base, tmp_path):  # noqa: F811
    return resolve_base(str(shutil.copytree(tiny_base.path, tmp_path / "other-model")))


def image(base, prompt="a red cat", count=1, **values) -> dict:
    """The payload of an image job."""
    settings = {"num_inference_steps": 2, "width": 64, "height": 64, **values}
    return {"recipe": Recipe(prompt=prompt, base_model=str(base.path), **settings).to_json(), "count": count}


def draw_folder(run: Run) -> list[str]:
    return sorted(path.name for path in (run.path / "draw").iterdir())


def test_a_training_draws_the_images_of_its_base_and_ends_in_the_same_bytes(home, jobs, workspace, tiny_base, other_base):  # noqa: F811
    plain, run = tiny_run(workspace, tiny_base, *LONG), tiny_run(workspace, tiny_base, *LONG)
    train(plain, Disk())
    resident_worker = Worker(home)
    job = jobs.submit("local", "train", {"run": run.id})
    turn_until(resident_worker, lambda: resident_worker.training is not None)

    early = jobs.submit("local", "generate", image(tiny_base))
    turn_until(resident_worker, lambda: jobs.get(early.id).message)
    seen = jobs.get(early.id)
    assert (seen.state, seen.message) == ("running", f"Waits until the training of {run.title} has loaded the base.")
    turn_until(resident_worker, over(jobs, early))
    turn_until(resident_worker, lambda: jobs.get(job.id).done >= 5)

    mine = image(tiny_base, stack=[StackEntry(adapter=f"run:{run.id}", weight=1)])
    asked = [jobs.submit("local", "generate", each) for each in (mine, image(tiny_base, "another prompt", count=2))]
    foreign = jobs.submit("ada", "generate", image(tiny_base, "a prompt of Ada"))
    turn_until(resident_worker, lambda: not any(jobs.get(each.id).unfinished for each in (*asked, foreign)))
    for each in (early, *asked, foreign):
        seen = jobs.get(each.id)
        assert seen.state == "done" and seen.result["notes"] == [], (seen.error, seen.result)
    used = read_recipe(workspace.image_path(jobs.get(asked[0].id).result["images"][0]).read_bytes()).stack[0].sha256
    assert used is not None
    (foreign_image,) = jobs.get(foreign.id).result["images"]
    assert home.workspace("ada").image_path(foreign_image).exists() and not workspace.image_path(foreign_image).exists()
    assert not any(b"Ada" in path.read_bytes() for path in run.path.rglob("*") if path.is_file()), "no prompt of another stays in the run"
    assert not resident_worker.models.generators and not resident_worker.models.device, "one base is in memory, that of the training"

    cancelled = jobs.submit("local", "generate", image(tiny_base, count=64, num_inference_steps=50))
    turn_until(resident_worker, lambda: jobs.get(cancelled.id).done > 0)
    assert jobs.get(cancelled.id).total == 3200
    jobs.cancel(cancelled.id)
    turn_until(resident_worker, over(jobs, cancelled))
    assert jobs.get(cancelled.id).state == "cancelled"

    beside = jobs.submit("local", "generate", image(other_base))
    turn_until(resident_worker, over(jobs, beside))
    assert jobs.get(beside.id).state == "done" and len(resident_worker.models.generators) == 1, "on a CPU another base is drawn beside it"
    assert jobs.get(job.id).state == "running"
    turn_until(resident_worker, over(jobs, job))
    assert jobs.get(job.id).state == "done" and draw_folder(run) == []
    assert run.latest_adapter().read_bytes() == plain.latest_adapter().read_bytes()


def test_a_base_that_stayed_in_ram_draws_while_the_training_still_loads(home, jobs, workspace, tiny_base):  # noqa: F811
    resident_worker = Worker(home)
    turn_until(resident_worker, over(jobs, jobs.submit("local", "generate", image(tiny_base))))
    run = tiny_run(workspace, tiny_base, *LONG)
    job = jobs.submit("local", "train", {"run": run.id})
    turn_until(resident_worker, lambda: resident_worker.training is not None)
    drawn = jobs.submit("local", "generate", image(tiny_base, "another"))
    turn_until(resident_worker, over(jobs, drawn))
    assert jobs.get(drawn.id).state == "done" and run.events()[0] == []
    turn_until(resident_worker, over(jobs, job))
    assert jobs.get(job.id).state == "done"


def test_a_training_killed_while_it_draws_ends_the_image_with_a_message_and_resumes_exactly(home, jobs, workspace, tiny_base):  # noqa: F811
    plain, run = tiny_run(workspace, tiny_base, *LONG), tiny_run(workspace, tiny_base, *LONG)
    train(plain, Disk())
    resident_worker = Worker(home)
    job = jobs.submit("local", "train", {"run": run.id})
    turn_until(resident_worker, lambda: jobs.get(job.id).done >= 50)
    drawn = jobs.submit("local", "generate", image(tiny_base, "a private prompt", count=64, num_inference_steps=50))
    turn_until(resident_worker, lambda: jobs.get(drawn.id).done > 0)
    os.kill(jobs.get(job.id).pid, signal.SIGKILL)
    turn_until(resident_worker, lambda: not jobs.get(drawn.id).unfinished and not jobs.get(job.id).unfinished)
    assert jobs.get(drawn.id).state == "interrupted" and "ended unexpectedly. Generate the image again" in jobs.get(drawn.id).error
    assert "killed by signal 9" in jobs.get(job.id).error and draw_folder(run) == []
    again = jobs.submit("local", "train", {"run": run.id})
    turn_until(resident_worker, over(jobs, again))
    assert jobs.get(again.id).state == "done" and run.latest_adapter().read_bytes() == plain.latest_adapter().read_bytes()


def test_a_new_worker_asks_again_for_the_images_of_one_that_died(home, jobs, workspace, tiny_base, monkeypatch):  # noqa: F811
    run = tiny_run(workspace, tiny_base, *LONG)
    first = Worker(home)
    job = jobs.submit("local", "train", {"run": run.id})
    turn_until(first, lambda: jobs.get(job.id).done >= 1)
    asked = jobs.submit("local", "generate", image(tiny_base, count=4, num_inference_steps=50))
    turn_until(first, lambda: jobs.get(asked.id).done > 0)
    del first
    # The worker's process is this one, which lives.
    monkeypatch.setattr(platform, "alive", lambda pid, mark=None: pid != os.getpid() and Path(f"/proc/{pid}").exists())
    second = Worker(home)
    second.recover()
    assert jobs.get(asked.id).state == "waiting"
    monkeypatch.undo()
    turn_until(second, over(jobs, asked))
    seen = jobs.get(asked.id)
    assert (seen.state, seen.attempts, len(seen.result["images"])) == ("done", 2, 4), seen.error
    turn_until(second, over(jobs, job))
    assert jobs.get(job.id).state == "done" and draw_folder(run) == []


@pytest.mark.parametrize("ending", ["finished", "failed"])
def test_an_image_that_a_training_had_no_time_for_is_drawn_by_the_worker(home, jobs, run, training, ending):  # noqa: F811
    training(ending)
    job = jobs.submit("local", "train", {"run": run.id})
    resident_worker = Worker(home)
    turn_until(resident_worker, lambda: jobs.get(job.id).done >= 5)
    drawn = jobs.submit("local", "generate", {"recipe": Recipe(num_inference_steps=1).to_json()})
    turn_until(resident_worker, lambda: jobs.get(drawn.id).message)
    assert jobs.get(drawn.id).message == "Waits for the next step of the training of Ink."
    turn_until(resident_worker, over(jobs, drawn))
    assert jobs.get(drawn.id).state == "done" and not jobs.get(job.id).unfinished


def test_on_a_gpu_other_models_wait_for_the_end_of_the_training(home, jobs, run, tiny_base, training, monkeypatch):  # noqa: F811
    training()
    monkeypatch.setattr(TrainingChild, "device", "cuda")
    job, following = (jobs.submit("local", "train", {"run": run.id}) for _ in range(2))
    resident_worker = Worker(home)
    turn_until(resident_worker, lambda: jobs.get(job.id).done >= 3)
    other = jobs.submit("local", "generate", image(tiny_base))
    captions = jobs.submit("local", "caption", {"dataset": run.config.dataset.id, "captioner": "builtin", "only_empty": False})
    foreign = jobs.submit("ada", "generate", image(tiny_base))
    stopped = jobs.submit("local", "generate", image(tiny_base))
    turn_until(resident_worker, lambda: jobs.get(stopped.id).message)
    assert [jobs.get(each.id).message for each in (other, captions, foreign)] == [
        "Waits for the training of Ink to end: it uses another base (LoRA Studio's small world).",
        "Waits for the training of Ink to end: the captioner does not fit on the GPU beside it.",
        "Waits for the training of another visitor to end: it uses another base.",
    ]
    assert jobs.cancel(stopped.id).state == "cancelled"
    turn_until(resident_worker, over(jobs, job))
    assert [event["kind"] for event in run.events()[0]].count("pausing") == 0
    turn_until(resident_worker, lambda: jobs.get(following.id).state == "running")
    assert [jobs.get(each.id).state for each in (other, captions, foreign)] == ["done"] * 3
    jobs.cancel(following.id)
    turn_until(resident_worker, over(jobs, following))


def test_an_image_job_that_is_no_recipe_fails_during_a_training_too(home, jobs, run, training):  # noqa: F811
    training()
    job = jobs.submit("local", "train", {"run": run.id})
    resident_worker = Worker(home)
    turn_until(resident_worker, lambda: jobs.get(job.id).done >= 3)
    bad = jobs.submit("local", "generate", {"recipe": '{"prompt": 7}'})
    turn_until(resident_worker, over(jobs, bad))
    assert "recipe of this image is not valid" in jobs.get(bad.id).error
    turn_until(resident_worker, over(jobs, job))
    wait_for(lambda: jobs.get(job.id).state == "done")
