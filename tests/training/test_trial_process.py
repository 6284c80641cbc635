"""Child processes that try executions, seen by their parent: stand-ins that crash, hang, run out of memory or are stopped; all real processes."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from studio.core import platform
from studio.training.trial_process import Trials
from studio.training.verdicts import Result

TIMED = "say({'execution': each, 'preparation_seconds': 1.5, 'seconds_per_step': 0.25})"
OUT_OF_MEMORY = "CUDA out of memory. Tried to allocate 2.00 GiB"
WAYS = {
    "works": TIMED,
    "crashes": "os.kill(os.getpid(), signal.SIGSEGV)",
    "is killed": "os.kill(os.getpid(), signal.SIGKILL)",
    "hangs": "time.sleep(600)",
    "runs out of memory": f"say({{'execution': each, 'failed': {OUT_OF_MEMORY!r}}}); sys.exit()",
    "ends": "sys.exit(3)",
    "babbles": f"print('not JSON'); print('[1]'); {TIMED}",
}


def child(tmp_path: Path, begin: str = "", **ways: str) -> list[str]:
    """A program that answers as a trial does: `ways` are executions with what happens when they are tried. It notes every start and its pid."""
    sources = {name: WAYS[way] for name, way in ways.items()}
    source = f"""
import json, os, signal, sys, time
def say(report): print(json.dumps(report), flush=True)
request = json.loads(sys.stdin.readline())
with open({str(tmp_path / "starts")!r}, "a") as starts: starts.write(json.dumps([os.getpid(), request["executions"]]) + chr(10))
{begin}
say({{"ready": True}})
for each in request["executions"]:
    exec({sources!r}[each])
"""
    file = tmp_path / "child.py"
    file.write_text(source)
    return [sys.executable, str(file)]


def starts(tmp_path: Path) -> list[tuple[int, list[str]]]:
    return [tuple(json.loads(line)) for line in (tmp_path / "starts").read_text().splitlines()]


def tried(tmp_path, command, executions, **options) -> tuple[dict[str, Result], list[list[str]], Trials, bool]:
    results, remaining = {}, []
    trials = Trials({}, results.__setitem__, remaining.append, command=command, **options)
    complete = trials.run(executions)
    assert not any(platform.alive(pid) for pid, _ in starts(tmp_path)), "no child outlives the trial"
    return results, remaining, trials, complete


def test_all_executions_are_tried_in_one_process_where_none_fails(tmp_path):
    command = child(tmp_path, eager="works", graph="babbles", compiled="works")
    results, remaining, _, complete = tried(tmp_path, command, ["eager", "graph", "compiled"])
    assert complete and results == dict.fromkeys(["eager", "graph", "compiled"], Result(preparation_seconds=1.5, seconds_per_step=0.25))
    assert len(starts(tmp_path)) == 1
    assert remaining == [["eager", "graph", "compiled"], ["graph", "compiled"], ["compiled"]]


@pytest.mark.parametrize(
    ("way", "reason"),
    [
        ("crashes", "its process crashed with the signal SIGSEGV"),
        ("is killed", "its process was killed, as Linux does when RAM runs out of memory"),
        ("hangs", "no answer within 3 seconds"),
        ("runs out of memory", OUT_OF_MEMORY),
        ("ends", "its process ended with the exit status 3"),
    ],
)
def test_an_execution_that_fails_is_not_taken_and_a_new_process_tries_the_rest(way, reason, tmp_path):
    command = child(tmp_path, eager="works", graph=way, compiled="works")
    results, _, _, complete = tried(tmp_path, command, ["eager", "graph", "compiled"], silence_seconds=3)
    assert complete and [results[name].failed for name in ("eager", "graph", "compiled")] == ["", reason, ""]
    assert [executions for _, executions in starts(tmp_path)] == [["eager", "graph", "compiled"], ["compiled"]]
    assert results["graph"].out_of_memory == ("memory" in reason)


def test_the_last_execution_may_fail(tmp_path):
    results, _, _, complete = tried(tmp_path, child(tmp_path, eager="works", compiled="crashes"), ["eager", "compiled"])
    assert complete and results["compiled"].failed and len(starts(tmp_path)) == 1


@pytest.mark.parametrize("begin", ["raise SystemExit(1)", "say({'failed': 'no kernel image is available'}); sys.exit()", "time.sleep(600)"])
def test_a_process_that_fails_before_it_tries_anything_ends_the_trial(begin, tmp_path):
    """That is no verdict about an execution."""
    results, _, trials, complete = tried(tmp_path, child(tmp_path, begin, eager="works"), ["eager", "graph"], silence_seconds=3)
    assert complete and results == {} and len(starts(tmp_path)) == 1
    assert trials.failure in ("its process ended with the exit status 1", "no kernel image is available", "no answer within 3 seconds")


def test_a_stop_ends_the_child_at_once(tmp_path):
    command, began = child(tmp_path, eager="works", graph="hangs"), time.monotonic()
    results: dict[str, Result] = {}
    trials = Trials({}, results.__setitem__, should_stop=lambda: "eager" in results, command=command)
    assert not trials.run(["eager", "graph"])
    assert list(results) == ["eager"] and time.monotonic() - began < 20
    assert not platform.alive(starts(tmp_path)[0][0])


PARENT = """
import sys
from studio.training.trial_process import Trials
Trials({}, lambda execution, result: None, command=sys.argv[1:]).run(["eager"])
"""


BY_ITS_PIPE = "import studio.core.platform as p; p.LINUX = False; p.end_with_parent(sys.stdin)"
BY_THE_KERNEL = """
import studio.core.platform as p, types
p.threading = types.SimpleNamespace(Thread=lambda **_: types.SimpleNamespace(start=lambda: None))
p.end_with_parent(sys.stdin)
"""


@pytest.mark.skipif(platform.WINDOWS, reason="signals")
@pytest.mark.parametrize("begin", [BY_ITS_PIPE, *([BY_THE_KERNEL] if platform.LINUX else [])], ids=["pipe", "kernel"][: 1 + platform.LINUX])
def test_the_child_ends_when_its_parent_is_killed(begin, tmp_path):
    """The stand-in ends as the real child does, by one of the two means alone."""
    parent = subprocess.Popen([sys.executable, "-c", PARENT, *child(tmp_path, begin, eager="hangs")], env=platform.environment())
    deadline = time.monotonic() + 60
    while not (tmp_path / "starts").exists() and time.monotonic() < deadline:
        time.sleep(0.05)
    time.sleep(1)
    pid, _ = starts(tmp_path)[0]
    assert platform.alive(pid)
    os.kill(parent.pid, signal.SIGKILL)
    parent.wait()
    while platform.alive(pid) and time.monotonic() < deadline:
        time.sleep(0.05)
    assert not platform.alive(pid)
