"""Trial of executions before a run: its verdict, what the run does with it, and that nothing of it touches the run."""

import functools
import itertools
import json
import sys

import pytest

from studio import config as configs
from studio.config import fields, optimizers
from studio.core import platform
from studio.devices import memory
from studio.jobs.training_process import _progress_message
from studio.runs.run import Run
from studio.training import backends, resolve, trial
from studio.training.checkpoints import Disk
from studio.training.loop import train
from studio.training.trial_process import Trials
from studio.training.verdicts import Result, Verdict, key_of
from tests.tiny import FAMILY, optimizer_settings, tiny_base, tiny_run  # noqa: F401 - fixtures
from tests.training.test_distributed import fork
from tests.training.test_engine import TWELVE, result, stop_at
from tests.training.test_trial_process import child, starts


@pytest.fixture(autouse=True)
def executions_are_open(monkeypatch):
    """As on a GPU, where executions are tried; a CPU is resolved to eager."""
    original = memory.resolve

    def leave_open(requested, *arguments):
        chosen, reasons = original(requested, *arguments)
        return chosen.model_copy(update={"execution": requested.execution}), reasons

    monkeypatch.setattr(memory, "resolve", leave_open)
    monkeypatch.setattr(backends, "available", lambda config: ["eager", "graph", "compiled"])
    monkeypatch.setattr(resolve, "MIN_STEPS_FOR_TRIAL", 0)


@pytest.fixture
def stand_in(monkeypatch, tmp_path):
    """`stand_in(eager="works", graph="crashes")`: a program answers instead of the trial, as in test_trial_process.py."""

    def use(**ways: str) -> None:
        monkeypatch.setattr(resolve, "Trials", functools.partial(Trials, command=child(tmp_path, **ways), silence_seconds=5))

    return use


def notes(run: Run) -> list[str]:
    return [event["message"] for event in run.events()[0] if event["kind"] == "note"]


@pytest.mark.timeout(300)
def test_a_run_with_a_real_trial_ends_in_the_same_bytes_as_one_without(workspace, tiny_base, monkeypatch):  # noqa: F811
    """Eager is chosen whatever the timings are. Prodigy's state begins with the first gradient, so a trace of a trial would last."""
    settings = [*TWELVE, *optimizer_settings(optimizers.get("prodigy")), "lora.dropout=0.1"]
    monkeypatch.setattr(backends, "available", lambda config: ["eager", "compiled"])
    monkeypatch.setattr(backends, "MAX_TIME_RATIO", 0.0)
    monkeypatch.setattr(trial, "Request", functools.partial(trial.Request, backend="eager"))
    plain, tried = (tiny_run(workspace, tiny_base, *settings, *way) for way in (["runtime.execution=eager"], []))
    expected = result(plain)
    assert result(tried) == expected
    assert tried.config.runtime.execution == "eager"
    (file,) = tried.trials_dir.iterdir()
    assert file.parent == workspace.root.parents[1] / "trials"
    stored = json.loads(file.read_text())
    assert stored["results"].keys() == {"eager", "compiled"} and all(each["seconds_per_step"] > 0 for each in stored["results"].values())
    assert any(note.startswith("Running eagerly, ") and "torch.compile" in note for note in notes(tried))


def test_the_verdict_of_one_run_serves_the_next_and_its_choice_is_kept(workspace, tiny_base, stand_in, tmp_path, monkeypatch):  # noqa: F811
    stand_in(eager="works", graph="crashes", compiled="works")
    first, second = (tiny_run(workspace, tiny_base, *TWELVE) for _ in range(2))
    plain = result(tiny_run(workspace, tiny_base, *TWELVE, "runtime.execution=eager"))
    assert result(first) == plain
    crash = "recording a CUDA graph failed: its process crashed with the signal SIGSEGV"
    assert notes(first) == [f"Running eagerly, 250 ms per step (torch.compile 250 ms); {crash}."]
    assert len(starts(tmp_path)) == 2
    assert result(second) == plain and notes(second) == notes(first)
    assert len(starts(tmp_path)) == 2, "nothing is tried again, not the way that crashed either"
    assert not any(event["kind"] == "trial" for event in second.events()[0])


def test_a_resume_keeps_the_execution_of_its_run_whatever_the_verdict_is(workspace, tiny_base, stand_in, tmp_path):  # noqa: F811
    stand_in(eager="works", graph="works", compiled="works")
    run = tiny_run(workspace, tiny_base, *TWELVE)
    stop_at(run, 5)
    assert run.config.runtime.execution == "eager" and len(starts(tmp_path)) == 1
    for file in run.trials_dir.iterdir():
        file.write_bytes(b"damaged")
    result(run)
    assert len(starts(tmp_path)) == 1


def test_a_damaged_verdict_is_found_out_again(workspace, tiny_base, stand_in, tmp_path):  # noqa: F811
    stand_in(eager="works", graph="works", compiled="works")
    damages = [b"", b"{", b"[]", b'{"key": {}, "results": {}}', b'{"key": 1}', b"\xff"]
    for number, damage in enumerate(damages):
        run = tiny_run(workspace, tiny_base, *TWELVE, "training.max_train_steps=1")
        result(run)
        assert len(starts(tmp_path)) == number + 1
        (file,) = run.trials_dir.iterdir()
        file.write_bytes(damage)


def test_a_short_run_tries_nothing_but_uses_a_known_verdict(workspace, tiny_base, stand_in, tmp_path, monkeypatch):  # noqa: F811
    stand_in(eager="works", graph="works", compiled="works")
    monkeypatch.setattr(resolve, "MIN_STEPS_FOR_TRIAL", 2)
    short, long, again = (tiny_run(workspace, tiny_base, *TWELVE, f"training.max_train_steps={steps}") for steps in (1, 2, 1))
    for run in (short, long, again):
        result(run)
    assert notes(short)[0] == "Running eagerly: 1 step would not save the time that trying other ways takes."
    assert notes(long)[0] == notes(again)[0] == "Running eagerly, 250 ms per step (CUDA graph 250 ms, torch.compile 250 ms)."
    assert len(starts(tmp_path)) == 1


def test_a_stop_during_the_trial_stops_the_run_and_the_next_start_tries_the_rest(workspace, tiny_base, stand_in, tmp_path):  # noqa: F811
    stand_in(eager="works", graph="hangs", compiled="works")

    class Stops(Run):
        def append(self, event):
            super().append(event)
            if event["kind"] == "trial" and event["executions"][0] == "graph":
                self.request_stop()

    run = tiny_run(workspace, tiny_base, *TWELVE)
    train(Stops(run.path), Disk())
    assert run.state == "stopped" and not run.stop_requested and run.config.runtime.execution is None
    assert not platform.alive(starts(tmp_path)[0][0])
    stand_in(graph="works", compiled="works")
    result(run)
    assert [executions for _, executions in starts(tmp_path)] == [["eager", "graph", "compiled"], ["graph", "compiled"]]


def test_a_trial_that_cannot_begin_leaves_no_verdict(workspace, tiny_base, monkeypatch):  # noqa: F811
    monkeypatch.setattr(resolve, "Trials", functools.partial(Trials, command=[sys.executable, "-c", "raise SystemExit(4)"]))
    run = tiny_run(workspace, tiny_base, *TWELVE)
    result(run)
    assert notes(run) == ["Running eagerly; trying other ways failed: its process ended with the exit status 4."]
    assert not run.trials_dir.exists()


def test_the_page_shows_what_is_tried(workspace, tiny_base, stand_in):  # noqa: F811
    stand_in(eager="works", graph="works", compiled="works")
    run = tiny_run(workspace, tiny_base, *TWELVE)
    result(run)
    messages = [_progress_message(event) for event in run.events()[0] if event["kind"] == "trial"]
    assert messages == [
        "Trying how to run a step fastest: eager, then CUDA graph, then torch.compile; at most 12 minutes",
        "Trying how to run a step fastest: CUDA graph, then torch.compile; at most 9 minutes",
        "Trying how to run a step fastest: torch.compile; at most 6 minutes",
    ]


@pytest.mark.timeout(300)
def test_of_several_processes_only_the_main_one_tries(workspace, tiny_base, stand_in, tmp_path):  # noqa: F811
    stand_in(eager="works", graph="works", compiled="works")
    run = tiny_run(workspace, tiny_base, *TWELVE, "training.max_train_steps=2", "runtime.processes=2")
    assert len(fork(run)) == 2
    assert len(starts(tmp_path)) == 1 and run.config.runtime.execution == "eager"


def results(**seconds: tuple[float, float]) -> dict[str, Result]:
    return {name: Result(preparation_seconds=each[0], seconds_per_step=each[1]) for name, each in seconds.items()}


def test_the_choice_follows_from_the_number_of_steps():
    known = results(eager=(5, 0.1), graph=(6, 0.09), compiled=(60, 0.05))
    assert [backends.select(known, steps) for steps in (100, 1000, 2000, 10_000)] == ["eager", "graph", "compiled", "compiled"]
    assert backends.select(results(eager=(0, 0.1), graph=(0, 0.098)), 10**6) == "eager", "less than 3 % faster"
    assert backends.select({"eager": Result(failed="no"), "graph": Result(failed="no")}, 10) == "eager"
    assert backends.select({"eager": Result(failed="no"), **results(compiled=(9, 1))}, 10) == "compiled"


def test_the_note_names_the_choice_the_timings_and_each_failure():
    known = results(eager=(0, 0.12), graph=(1, 0.0931))
    assert backends.describe("graph", known, 1000) == "Execution: CUDA graph, 93 ms per step (eager 120 ms)."
    failed = {"compiled": Result(failed="C++ compiler not found.\nTraceback ...")}
    assert backends.describe("eager", results(eager=(0, 0.089)) | failed, 1000) == (
        "Running eagerly, 89 ms per step; compiling failed: C++ compiler not found."
    )
    assert backends.describe("graph", known | failed, 1000, " without the text encoder") == (
        "Execution: CUDA graph, 93 ms per step without the text encoder (eager 120 ms); compiling failed: C++ compiler not found."
    )
    assert backends.describe("eager", results(eager=(0, 1.5), compiled=(90, 1.2)), 100) == (
        "Running eagerly, 1.50 s per step (torch.compile 1.20 s). In 100 steps torch.compile would not save the time that its preparation takes."
    )
    assert backends.describe("eager", {"eager": Result(failed="a"), "graph": Result(failed="b")}, 1) == (
        "Running eagerly; running eagerly failed: a; recording a CUDA graph failed: b."
    )


def test_everything_that_decides_the_timings_is_in_the_key(tiny_base, tmp_path):  # noqa: F811
    def key(*overrides: str, sizes=((64, 64), (64, 96)), masked=False) -> str:
        values = {"model": {"base_model": str(tiny_base.path)}, "runtime": {"device": "cpu", "dtype": "float32", "engine": 1}}
        return Verdict(tmp_path, key_of(configs.build(values, *overrides), tiny_base, FAMILY, list(sizes), masked)).file.name

    changes = [
        "runtime.dtype=bfloat16",
        "lora.rank=8",
        "lora.method=dora",
        'lora.target_modules=["to_q"]',
        "lora.dropout=0.1",
        "lora.text_encoder=true",
        "training.optimizer=prodigy",
        "training.train_batch_size=3",
        "training.gradient_accumulation_steps=2",
        "training.ema_decay=0.9",
        "prior.prompt=a cat",
        "runtime.exact=false",
        "runtime.attention=math",
        "runtime.engine=2",
        "runtime.gradient_checkpointing=true",
        "runtime.quantisation=nf4",
        "runtime.offload=true",
    ]
    keys = [key(), *(key(change) for change in changes), key(masked=True), key(sizes=((64, 64),)), key(sizes=((64, 96), (64, 64)))]
    assert len(set(keys)) == len(keys)
    for same in ("training.max_train_steps=7", "training.learning_rate=1e-5", "training.seed=3", "dataset.trigger_word=abc", "samples.every=9"):
        assert key(same) == key()


def test_an_execution_without_enough_memory_is_tried_again_when_more_is_free(tmp_path):
    verdict = Verdict(tmp_path, {"a": 1})
    verdict.add("eager", Result(seconds_per_step=0.1))
    verdict.add("graph", Result(failed="CUDA out of memory. Tried to allocate 2 GiB", free_bytes=1000))
    verdict.add("compiled", Result(failed="no answer within 180 seconds", free_bytes=1000))
    again = Verdict(tmp_path, {"a": 1})
    assert again.results == verdict.results
    assert again.missing(["eager", "graph", "compiled"], 1040) == [] and again.missing(["eager", "graph", "compiled"], 2000) == ["graph"]
    assert Verdict(tmp_path, {"a": 2}).missing(["eager"], 0) == ["eager"]


def test_the_most_frequent_bucket_is_the_timed_one(workspace, tiny_base):  # noqa: F811
    run = tiny_run(workspace, tiny_base)
    sizes = trial.bucket_sizes(run, run.config, tiny_base, FAMILY)
    counts = [sum(1 for _ in group) for _, group in itertools.groupby(sorted(image["width"] for image in run.snapshot["pictures"]))]
    assert len(sizes) == len(counts) == 2 and sizes[0] == (64, 64)
    with_prior = fields.replace(run.config, {"prior.prompt": "a cat", "dataset.resolution": 128})
    assert (128, 128) in trial.bucket_sizes(run, with_prior, tiny_base, FAMILY)
