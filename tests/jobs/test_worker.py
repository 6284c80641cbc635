"""The resident worker: quick when warm, alive after every failure, and the one who knows how a training ended."""

import json
import os
import signal
import subprocess
import sys
import time

import numpy
import pytest
from PIL import Image
from safetensors.numpy import save_file

from studio import builtin, config
from studio.config.recipe import Recipe, StackEntry, read_recipe
from studio.core import platform
from studio.core.errors import StudioError
from studio.core.locks import FileLock
from studio.datasets.dataset import Dataset
from studio.generation import generator
from studio.jobs import worker
from studio.jobs.queue import Jobs
from studio.jobs.training_process import MAX_RESUMES
from studio.jobs.worker import Worker
from studio.runs import library
from studio.runs.creation import create_run, repeat_run
from studio.ui.components import run_state
from tests.tiny import tiny_base  # noqa: F401 - fixture
from tests.trained import LAYER, captioned_dataset, finished_run

# Stands in for `python -m studio.training.loop` where only its manners matter: it writes events, obeys wishes, holds the run's lock.
CHILD = """
import os, signal, sys, time
from pathlib import Path
from studio.runs.run import Run
from studio.ui.components import run_state
run, ending = Run(Path(sys.argv[1])), os.environ["ENDING"]
with run.lock():
    run.append({"kind": "started", "step": 0, "total": 60, "resumed": False})
    for step in range(1, 61):
        if run.pause_requested:
            run.append({"kind": "pausing", "step": step})
            while run.pause_requested: time.sleep(0.005)
            run.append({"kind": "resumed", "step": step})
        if run.stop_requested:
            run.append({"kind": "stopped", "step": step}); sys.exit(0)
        if step == 30 and ending == "killed": os.kill(os.getpid(), signal.SIGKILL)
        if step == 30 and ending == "broken": sys.exit(1)
        if step == 30 and ending == "failed":
            run.append({"kind": "failed", "step": step, "message": "The memory is not enough for this run. Choose rank 4."}); sys.exit(1)
        run.append({"kind": "step", "step": step, "loss": 0.1, "lr": 1e-4, "seconds_per_step": 0.01, "seconds_left": 0.6 - step / 100})
        time.sleep(0.01)
    run.append({"kind": "finished", "step": 60, "seconds": 0.6, "adapter": "step-000060.safetensors"})
"""


def wait_for(condition, seconds=120.0):
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "it did not happen in time"
        time.sleep(0.005)


@pytest.fixture
def jobs(home):
    return Jobs(home.database)


@pytest.fixture
def run(workspace):
    dataset = captioned_dataset(workspace, "style", "")
    return create_run(workspace, config.build({}, f"dataset.id={dataset.id}", "training.max_train_steps=60"), dataset, "Ink")


@pytest.fixture
def training(monkeypatch):
    """`training("killed")`: from now on trainings are the stand-in above, and end that way."""
    real = platform.module_command

    def command(module, *arguments, count=1):
        return [sys.executable, "-c", CHILD, *map(str, arguments)] if module == "studio.training.loop" else real(module, *arguments)

    def choose(ending="finished"):
        monkeypatch.setenv("ENDING", ending)
        monkeypatch.setattr(platform, "module_command", command)

    return choose


def turn_until(worker, condition, seconds=120.0):
    wait_for(lambda: (worker.run_once(), condition())[1], seconds)


def over(jobs, job):
    return lambda: not jobs.get(job.id).unfinished


def test_a_training_is_followed_step_by_step_to_its_end(home, jobs, run, training):
    training()
    job = jobs.submit("local", "train", {"run": run.id})
    resident_worker = Worker(home)
    turn_until(resident_worker, lambda: jobs.get(job.id).done >= 10)
    seen = jobs.get(job.id)
    assert seen.total == 60 and 0 < seen.seconds_left < 0.6
    turn_until(resident_worker, over(jobs, job))
    seen = jobs.get(job.id)
    assert (seen.state, seen.done, seen.result["adapter"]) == ("done", 60, f"run:{run.id}")


def test_cancelling_a_training_asks_it_to_save_and_stop(home, jobs, run, training):
    training()
    job = jobs.submit("local", "train", {"run": run.id})
    resident_worker = Worker(home)
    turn_until(resident_worker, lambda: jobs.get(job.id).done >= 5)
    jobs.cancel(job.id)
    turn_until(resident_worker, over(jobs, job))
    assert jobs.get(job.id).state == "cancelled" and run.state == "stopped"
    assert not run.stop_requested, "or the next one would stop at once"


def test_wishes_left_over_from_before_do_not_stop_a_new_training(home, jobs, run, training):
    training()
    run.request_stop()
    run.request_pause()
    job = jobs.submit("local", "train", {"run": run.id})
    turn_until(Worker(home), over(jobs, job))
    assert jobs.get(job.id).state == "done"


def test_a_training_that_linux_ended_for_lack_of_ram_says_so_and_what_helps(home, jobs, run, training, tmp_path, monkeypatch):
    counter = tmp_path / "vmstat"
    counter.write_text("nr_free_pages 7\noom_kill 3\n")
    monkeypatch.setattr(platform, "OOM_COUNTERS", (counter, tmp_path / "missing"))
    training("killed")
    job = jobs.submit("local", "train", {"run": run.id})
    resident_worker = Worker(home)
    turn_until(resident_worker, lambda: jobs.get(job.id).done >= 5)
    counter.write_text("nr_free_pages 7\noom_kill 4\n")
    turn_until(resident_worker, over(jobs, job))
    ended = jobs.get(job.id)
    assert ended.state == "failed" and "ran out of RAM" in ended.error and "signal" not in ended.error
    assert run.state == "failed" and run.retries()[0]["title"] in ended.error, "a button for the change that helps"


def test_a_training_that_ends_badly_does_not_end_the_worker_where_signals_lack_names(home, jobs, run, training, monkeypatch):
    """Windows has no SIGKILL."""
    monkeypatch.delattr(signal, "SIGKILL")
    training("killed")
    job = jobs.submit("local", "train", {"run": run.id})
    turn_until(Worker(home), over(jobs, job))
    assert jobs.get(job.id).state == "interrupted"


@pytest.mark.parametrize(("asked", "attempts"), [(True, MAX_RESUMES + 1), (False, 1)])
def test_a_run_resumes_by_itself_where_that_was_asked_for_and_not_endlessly(home, jobs, run, training, asked, attempts):
    run.resume_automatically(asked)
    training("killed")
    jobs.submit("local", "train", {"run": run.id}, key=run.job_key)
    resident_worker = Worker(home)
    turn_until(resident_worker, lambda: resident_worker.training is None and not jobs.list(states=("waiting", "running")))
    assert [job.state for job in jobs.list(kinds=("train",))] == ["interrupted"] * attempts


@pytest.mark.parametrize(
    ("ending", "state", "words"),
    [
        (
            "killed",
            "interrupted",
            "Training stopped unexpectedly at step 29 (killed by signal 9); press Resume to continue from the last checkpoint.",
        ),
        (
            "broken",
            "failed",
            "Training failed at step 29; see logs/{run}.log in the studio's folder. Press Resume to continue from the last checkpoint.",
        ),
        ("failed", "failed", "The memory is not enough for this run. Choose rank 4."),
    ],
)
def test_a_training_that_ends_badly_says_how_and_can_be_started_again(home, jobs, run, training, ending, state, words):
    training(ending)
    job = jobs.submit("local", "train", {"run": run.id})
    resident_worker = Worker(home)
    turn_until(resident_worker, over(jobs, job))
    assert (jobs.get(job.id).state, jobs.get(job.id).error) == (state, words.format(run=run.id))
    assert run.state == ("failed" if state == "failed" else "running")
    training("finished")
    again = jobs.submit("local", "train", {"run": run.id})
    turn_until(resident_worker, over(jobs, again))
    assert jobs.get(again.id).state == "done"


def test_a_new_worker_takes_over_a_training_that_lives_and_lets_it_go_on(home, jobs, run, training):
    training()
    job = jobs.submit("local", "train", {"run": run.id})
    first = Worker(home)
    turn_until(first, lambda: jobs.get(job.id).done >= 5)
    run.request_pause()  # the first worker dies in the middle of a "draw now"
    del first
    assert jobs.recover() == []
    second = Worker(home)
    second.recover()
    assert second.training is not None and not run.pause_requested
    turn_until(second, over(jobs, job))
    assert jobs.get(job.id).state == "done" and run.state == "finished"


@pytest.mark.parametrize("asked_again", [False, True], ids=["the next worker finds it", "Resume finds it"])
def test_a_training_of_which_its_worker_died_before_saying_so_is_found(home, jobs, run, training, monkeypatch, asked_again):
    training()
    job = jobs.submit("local", "train", {"run": run.id})
    with monkeypatch.context() as silent:
        silent.setattr(Jobs, "set_process", lambda self, job_id, pid: None)
        turn_until(Worker(home), lambda: run.trainer_pid() is not None)
    child = run.trainer_pid()
    gone = subprocess.Popen([sys.executable, "-c", ""])
    gone.wait()
    jobs.set_process(job.id, gone.pid)
    if asked_again:
        jobs.interrupt(job.id, "its process was gone")
        job = jobs.submit("local", "train", {"run": run.id})
    second = Worker(home)
    second.recover()
    turn_until(second, over(jobs, job))
    assert jobs.get(job.id).state == "done" and jobs.get(job.id).pid == child
    assert [event["kind"] for event in run.events()[0]].count("started") == 1 and run.trainer_pid() is None


def test_a_new_worker_finds_out_how_a_training_ended_while_nobody_looked(home, jobs, run, training):
    training("failed")
    job = jobs.submit("local", "train", {"run": run.id})
    first = Worker(home)
    turn_until(first, lambda: jobs.get(job.id).done >= 1)
    wait_for(lambda: run.state == "failed")
    del first
    second = Worker(home)
    second.recover()
    turn_until(second, over(jobs, job))
    assert jobs.get(job.id).error == "The memory is not enough for this run. Choose rank 4."


def test_one_training_at_a_time_while_pictures_need_not_wait(home, jobs, run, tiny_base, training):  # noqa: F811
    training()
    first, second = (jobs.submit("local", "train", {"run": run.id}) for _ in range(2))
    resident_worker = Worker(home)
    turn_until(resident_worker, lambda: jobs.get(first.id).done >= 5)
    recipe = Recipe(prompt="a red house", base_model=str(tiny_base.path), num_inference_steps=1)
    drawing = jobs.submit("local", "generate", {"recipe": recipe.to_json(), "count": 1})
    turn_until(resident_worker, over(jobs, drawing))
    assert jobs.get(drawing.id).state == "done", jobs.get(drawing.id).error
    assert jobs.get(first.id).state == "running" and jobs.get(second.id).state == "waiting"
    assert run.state == "paused", "it rests a moment longer, for somebody who drags a slider"
    turn_until(resident_worker, over(jobs, first))
    kinds = [event["kind"] for event in run.events()[0]]
    assert kinds.count("pausing") == kinds.count("resumed") == 1 and jobs.get(first.id).state == "done"
    jobs.cancel(second.id)


@pytest.fixture
def several(workspace, jobs, run):
    """Four trainings in the queue, the last moved to the second place: (run, job) in the order they are to be taken."""
    runs = [run, *(repeat_run(run, workspace, run.config, f"Ink {number}") for number in (1, 2, 3))]
    queued = [(each, jobs.submit("local", "train", {"run": each.id}, key=each.job_key)) for each in runs]
    jobs.move(queued[3][1].id, "first")
    jobs.move(queued[0][1].id, "first")
    return [queued[0], queued[3], queued[1], queued[2]]


def test_trainings_run_one_at_a_time_in_the_order_people_gave_them(home, jobs, several, training):
    training()
    resident_worker = Worker(home)
    began = []

    def check():
        running = [job.id for job in jobs.list(kinds=("train",), states=("running",))]
        assert len(running) < 2
        began.extend(each for each in running if each not in began)
        return not jobs.queue()

    turn_until(resident_worker, check)
    assert began == [job.id for _, job in several]
    assert [run.state for run, _ in several] == ["finished"] * 4


def test_after_a_restart_the_training_that_lives_goes_on_and_the_others_keep_their_order(home, jobs, several, training):
    training()
    first = Worker(home)
    turn_until(first, lambda: jobs.get(several[0][1].id).done >= 3)
    del first
    second = Worker(home)
    second.recover()
    assert [job.id for job in jobs.queue()] == [job.id for _, job in several]
    assert jobs.list(kinds=("train",), states=("running",))[0].id == several[0][1].id
    turn_until(second, over(jobs, several[0][1]))
    assert jobs.get(several[0][1].id).state == "done" and jobs.get(several[0][1].id).attempts == 1
    turn_until(second, lambda: jobs.get(several[1][1].id).done >= 1)
    assert [jobs.get(job.id).state for _, job in several] == ["done", "running", "waiting", "waiting"]
    for _, job in several[2:]:
        jobs.cancel(job.id)
    turn_until(second, lambda: not jobs.queue())


def test_a_training_that_died_with_its_server_can_be_resumed_and_the_next_one_begins(home, jobs, several, training):
    training()
    first = Worker(home)
    (run, job), (_, following) = several[:2]
    turn_until(first, lambda: jobs.get(job.id).done >= 3)
    os.kill(jobs.get(job.id).pid, signal.SIGKILL)
    wait_for(lambda: not platform.alive(jobs.get(job.id).pid))
    del first
    second = Worker(home)
    second.recover()
    turn_until(second, lambda: jobs.get(following.id).state == "running")
    now = run_state.condition(run, jobs.get(job.id))
    assert now.state == "interrupted" and now.can_resume and "press Resume to continue" in now.message
    again = jobs.submit("local", "train", {"run": run.id}, key=run.job_key)
    assert [each.id for each in jobs.queue()][-1] == again.id, "it stands behind those that waited"
    for each in jobs.queue():
        jobs.cancel(each.id)
    turn_until(second, lambda: not jobs.queue())


def test_a_training_leaves_a_small_base_in_memory_and_sends_the_captioner_away(home, jobs, run, training):
    training()
    resident_worker = Worker(home)
    drawing = jobs.submit("local", "generate", {"recipe": Recipe(num_inference_steps=1).to_json()})
    turn_until(resident_worker, over(jobs, drawing))
    resident_worker.models.captioner("builtin", lambda done, total: None)
    job = jobs.submit("local", "train", {"run": run.id})
    turn_until(resident_worker, over(jobs, job))
    assert jobs.get(job.id).state == "done", jobs.get(job.id).error
    assert resident_worker.models.is_loaded(Recipe()) and not resident_worker.models.captioners


@pytest.fixture
def trained(workspace):
    """A finished run whose two saves fit the shipped base and differ."""
    run = finished_run(workspace)
    width = json.loads((builtin.MODEL_DIR / "unet" / "config.json").read_text())["block_out_channels"][-1]
    for step, path in run.adapters():
        tensors = {
            f"{LAYER}.lora_{half}.weight": numpy.full(shape, step / 1e4, numpy.float32) for half, shape in (("A", (4, width)), ("B", (width, 4)))
        }
        save_file(tensors, path, metadata={"format": "pt"})
    return run


def test_a_picture_carries_its_recipe_and_the_same_recipe_is_the_same_file(home, jobs, workspace, trained):
    card = library.find(workspace, f"run:{trained.id}")
    stack = [StackEntry(adapter=card.ref, weight=0.5, title=card.title, sha256=card.sha256)]
    recipe = Recipe(prompt="a red house", seed=5, num_inference_steps=2, stack=stack)
    resident_worker = Worker(home)
    drawn = []
    for _ in range(2):
        job = jobs.submit("local", "generate", {"recipe": recipe.to_json(), "count": 2})
        turn_until(resident_worker, over(jobs, job))
        seen = jobs.get(job.id)
        assert seen.state == "done" and seen.result["notes"] == [], (seen.error, seen.result)
        drawn.append(seen.result["images"])
    assert drawn[0] == drawn[1] and len(set(drawn[0])) == 2
    found = [read_recipe(workspace.image_path(image).read_bytes()) for image in drawn[0]]
    assert found == [recipe, recipe.model_copy(update={"seed": 6})]
    with Image.open(workspace.image_path(drawn[0][0])) as picture:
        assert picture.size == (128, 128)


def test_an_old_recipe_finds_the_save_it_was_drawn_with(home, jobs, workspace, trained):
    early = library.find(workspace, f"run:{trained.id}@100").sha256
    stack = [StackEntry(adapter=f"run:{trained.id}", weight=1, sha256=early), StackEntry(adapter="run:gone", weight=1, on=False)]
    resident_worker = Worker(home)
    job = jobs.submit("local", "generate", {"recipe": Recipe(stack=stack, num_inference_steps=1).to_json()})
    turn_until(resident_worker, over(jobs, job))
    seen = jobs.get(job.id)
    assert seen.state == "done" and seen.result["notes"] == []
    stack[0] = stack[0].model_copy(update={"sha256": "0" * 64})
    job = jobs.submit("local", "generate", {"recipe": Recipe(stack=stack, num_inference_steps=1).to_json()})
    turn_until(resident_worker, over(jobs, job))
    seen = jobs.get(job.id)
    assert "has changed since this recipe was written" in seen.result["notes"][0]
    written = read_recipe(workspace.image_path(seen.result["images"][0]).read_bytes()).stack[0].sha256
    assert written == library.find(workspace, f"run:{trained.id}").sha256, "a recipe never names a file it was not drawn with"


@pytest.mark.parametrize(
    ("kind", "payload", "words"),
    [
        ("generate", {"recipe": Recipe(stack=[StackEntry(adapter="file:gone", weight=1)]).to_json()}, "There is no LoRA 'file:gone'"),
        ("generate", {"recipe": Recipe().to_json(), "count": 1000}, "choose 1 to 64"),
        ("generate", {"recipe": '{"prompt": 7}'}, "recipe of this image is not valid"),
        ("generate", {}, "a bug in the studio (KeyError)"),
        ("generate", {"recipe": Recipe(base_model="/nowhere/at/all").to_json()}, "model_index.json"),
        ("caption", {"dataset": "gone"}, "no longer exists"),
        ("train", {"run": "../../etc"}, "is not the id of a run"),
    ],
)
def test_a_job_that_fails_says_why_and_the_worker_goes_on(home, jobs, kind, payload, words):
    resident_worker = Worker(home)
    job = jobs.submit("local", kind, payload)
    turn_until(resident_worker, over(jobs, job))
    assert jobs.get(job.id).state == "failed" and words in jobs.get(job.id).error
    assert resident_worker.run_once()


@pytest.mark.parametrize("entry", [StackEntry(adapter="file:gone", weight=1), StackEntry(adapter="starter:style", weight=1)], ids=["gone", "refused"])
def test_an_image_that_is_refused_keeps_the_loaded_models(home, jobs, entry, monkeypatch):
    resident_worker = Worker(home)
    turn_until(resident_worker, over(jobs, jobs.submit("local", "generate", {"recipe": Recipe(num_inference_steps=1).to_json()})))
    loaded = dict(resident_worker.models.generators)
    monkeypatch.setattr(generator, "check_base_compatibility", refuse)
    job = jobs.submit("local", "generate", {"recipe": Recipe(stack=[entry], num_inference_steps=1).to_json()})
    turn_until(resident_worker, over(jobs, job))
    assert jobs.get(job.id).state == "failed"
    assert loaded and resident_worker.models.generators == loaded


def refuse(*_):
    raise StudioError("This LoRA was made for another base. Choose that one.")


@pytest.mark.parametrize("error", [RuntimeError("CUDA out of memory"), MemoryError(), KeyError("unet")], ids=repr)
def test_an_image_that_fails_for_memory_or_a_bug_evicts_all_models(home, jobs, error, monkeypatch):
    resident_worker = Worker(home)
    turn_until(resident_worker, over(jobs, jobs.submit("local", "generate", {"recipe": Recipe(num_inference_steps=1).to_json()})))

    def fail(*_):
        raise error

    monkeypatch.setattr(generator.Generator, "generate", fail)
    turn_until(resident_worker, over(jobs, jobs.submit("local", "generate", {"recipe": Recipe(num_inference_steps=1).to_json()})))
    assert not resident_worker.models.generators


def test_a_cancelled_drawing_stops_at_the_next_step(home, jobs):
    resident_worker = Worker(home)
    job = jobs.submit("local", "generate", {"recipe": Recipe(num_inference_steps=200).to_json(), "count": 64})
    claimed = resident_worker.claim()
    jobs.cancel(job.id)
    began = time.monotonic()
    resident_worker.run_job(claimed)
    assert jobs.get(job.id).state == "cancelled" and time.monotonic() - began < 20


def test_captions_are_written_by_the_resident_captioner(home, jobs, workspace):
    dataset = Dataset.from_samples(workspace, "style")
    for image in dataset.images[1:]:
        dataset.set_caption(image.id, "typed", "hand")
    job = jobs.submit("local", "caption", {"dataset": dataset.id, "captioner": "builtin", "only_empty": False})
    turn_until(Worker(home), over(jobs, job))
    assert jobs.get(job.id).result == {"captioned": 1, "kept": 15, "failed": 0, "unknown": 0, "shortened": 0}, jobs.get(job.id).error
    assert dataset.images[0].caption.startswith("ohwx ") and dataset.images[0].caption_source == "builtin"


# The real process.

CLIENT = (
    "import sys, time; from studio.jobs import worker; from studio.core.workspace import Home\n"
    "worker.ensure(Home(sys.argv[1])); print('here', flush=True); time.sleep(120)"
)


def test_the_resident_process_is_quick_and_another_takes_over_when_it_is_killed(home, jobs):
    client = subprocess.Popen([sys.executable, "-c", CLIENT, str(home.root)], stdout=subprocess.PIPE, env=platform.environment())
    client.stdout.readline()
    pid = json.loads((home.root / "worker.json").read_text())["pid"]

    def draw(count=1):
        return jobs.submit("local", "generate", {"recipe": Recipe(num_inference_steps=4).to_json(), "count": count})

    job = draw()
    wait_for(over(jobs, job))
    waits = []
    for _ in range(5):
        job = draw()
        wait_for(over(jobs, job))
        seen = jobs.get(job.id)
        assert seen.state == "done" and seen.pid == pid, seen.error
        waits.append(seen.started - seen.created)
    assert sorted(waits)[2] < 0.05, f"a warm worker starts within some 30 ms, not {waits}"

    job = draw(count=64)
    wait_for(lambda: jobs.get(job.id).done > 4)
    os.kill(pid, signal.SIGKILL)
    wait_for(lambda: not platform.alive(pid))
    assert [orphan.id for orphan in jobs.recover()] == [job.id] and jobs.get(job.id).state == "waiting"
    worker.ensure(home)
    new = json.loads((home.root / "worker.json").read_text())["pid"]
    assert new != pid
    wait_for(lambda: jobs.get(job.id).state == "running")
    assert jobs.get(job.id).attempts == 2 and jobs.get(job.id).pid == new
    jobs.cancel(job.id)
    for process in (new, client.pid):
        os.kill(process, signal.SIGKILL)
    client.wait()


def test_the_resident_process_leaves_in_peace_when_nobody_who_asked_for_it_lives(home):
    client = subprocess.Popen([sys.executable, "-c", CLIENT, str(home.root)], stdout=subprocess.PIPE, env=platform.environment())
    client.stdout.readline()
    pid = json.loads((home.root / "worker.json").read_text())["pid"]
    client.kill()
    client.wait()
    assert platform.alive(pid)
    wait_for(lambda: not platform.alive(pid))
    assert json.loads((home.root / "worker.json").read_text()) == {}, "leaving in peace is no early death"
    assert "Loading" not in (home.logs / "worker.log").read_text(), "nor does it load anything for nobody"


def test_many_who_ask_at_once_get_one_worker(home, monkeypatch):
    started = []
    monkeypatch.setattr(platform, "module_command", lambda module, *a, **k: [sys.executable, "-c", "import time; time.sleep(30)"])
    real = platform.spawn
    monkeypatch.setattr(platform, "spawn", lambda *a, **k: started.append(real(*a, **k)) or started[-1])
    for _ in range(5):
        worker.ensure(home)
    assert len(started) == 1
    started[0].kill()


def test_a_worker_that_cannot_start_is_not_started_for_ever_and_nobody_waits_for_it(home, jobs, monkeypatch):
    monkeypatch.setattr(platform, "module_command", lambda module, *a, **k: [sys.executable, "-c", "raise SystemExit('no torch')"])
    monkeypatch.setattr(worker, "POLL_SECONDS", 0.02)
    job = jobs.submit("local", "generate", {})
    worker.start_supervisor(home)
    wait_for(over(jobs, job))
    assert "ends right after it starts" in jobs.get(job.id).error
    assert (home.logs / "worker.log").read_text().count("no torch") == worker.MAX_STARTS


def test_a_second_worker_goes_away_by_itself(home):
    with FileLock(home.root / "worker.lock", "The worker"):
        output = subprocess.run(
            [sys.executable, "-m", "studio.jobs.worker", str(home.root)], env=platform.environment(), capture_output=True, timeout=60
        )
    assert output.returncode == 0 and b"another worker" in output.stderr
