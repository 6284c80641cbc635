"""The queue: nothing is done twice, nothing is lost, and every end has a reason."""

import contextlib
import multiprocessing
import os
import re
import signal
import sqlite3
import subprocess
import sys
import threading
import time

import pytest

from studio.core import platform
from studio.core.errors import StudioError
from studio.jobs import queue
from studio.jobs.progress import Cancelled, ErrorBoundary, ProgressReporter
from studio.jobs.queue import Jobs


@pytest.fixture
def jobs(tmp_path):
    return Jobs(tmp_path / "studio.db")


@pytest.fixture
def dead_pid():
    child = subprocess.Popen([sys.executable, "-c", "pass"])
    child.wait()
    return child.pid


def wait_for(condition, seconds=60.0):
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "it did not happen in time"
        time.sleep(0.01)


def claim_all(database, answers):
    jobs, mine = Jobs(database), []
    while job := jobs.claim(("generate",), os.getpid()):
        mine.append(job.id)
    answers.put(mine)


def test_four_processes_claim_six_hundred_jobs_and_none_twice(jobs):
    wanted = [jobs.submit("local", "generate", {"n": n}).id for n in range(600)]
    context = multiprocessing.get_context("spawn")
    answers = context.Queue()
    workers = [context.Process(target=claim_all, args=(jobs.database, answers)) for _ in range(4)]
    for worker in workers:
        worker.start()
    claimed = [answers.get(timeout=30) for _ in workers]
    for worker in workers:
        worker.join()
    assert sorted(sum(claimed, [])) == wanted
    assert all(mine == sorted(mine) for mine in claimed), "first come, first served"


def open_and_submit(database, start, answers):
    start.wait()
    try:
        answers.put(Jobs(database).submit("ada", "generate", {}).state)
    except sqlite3.OperationalError as error:
        answers.put(str(error))


def test_eight_processes_may_open_a_new_database_at_the_same_moment(tmp_path):
    context = multiprocessing.get_context("spawn")
    for attempt in range(3):
        start, answers = context.Barrier(8), context.Queue()
        openers = [context.Process(target=open_and_submit, args=(tmp_path / f"{attempt}.db", start, answers)) for _ in range(8)]
        for opener in openers:
            opener.start()
        assert [answers.get(timeout=30) for _ in openers] == ["waiting"] * 8
        for opener in openers:
            opener.join()


def test_a_double_click_is_one_job_and_a_later_click_a_new_one(jobs):
    found = []
    threads = [threading.Thread(target=lambda: found.append(jobs.submit("ada", "train", {"run": "r"}, key="train-r").id)) for _ in range(16)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(found) == 16 and len(set(found)) == 1
    assert jobs.submit("bob", "train", {"run": "r"}, key="train-r").id != found[0], "another owner's key is another key"
    jobs.cancel(found[0])
    assert jobs.submit("ada", "train", {"run": "r"}, key="train-r").id not in found


def test_each_lane_is_first_come_first_served(jobs):
    import_job = jobs.submit("ada", "import", {})
    first, second = (jobs.submit("ada", kind, {}) for kind in ("caption", "generate"))
    assert jobs.claim(queue.DEVICE_KINDS, os.getpid()).id == first.id
    assert jobs.claim(queue.DEVICE_KINDS, os.getpid()).id == second.id
    assert jobs.claim(queue.DEVICE_KINDS, os.getpid()) is None
    assert jobs.get(import_job.id).state == "waiting"


def test_progress_result_and_duration_are_kept(jobs, monkeypatch):
    job = jobs.submit("ada", "generate", {"count": 2})
    jobs.claim(("generate",), os.getpid())
    jobs.progress(job.id, 1, 2, 3.5, "Drawing")
    seen = jobs.get(job.id)
    assert (seen.state, seen.done, seen.total, seen.seconds_left, seen.message) == ("running", 1, 2, 3.5, "Drawing")
    monkeypatch.setattr(time, "time", lambda: 0.0)  # the clock is set back by half a century
    assert jobs.finish(job.id, {"images": ["a"]})
    seen = jobs.get(job.id)
    assert (seen.state, seen.result, seen.payload) == ("done", {"images": ["a"]}, {"count": 2})
    assert 0 <= seen.seconds < 5
    assert not jobs.fail(job.id, "too late"), "an end is final"


def test_a_waiting_job_is_cancelled_at_once_and_a_running_one_is_asked(jobs):
    waiting, running = jobs.submit("ada", "generate", {}), jobs.submit("ada", "caption", {})
    jobs.claim(("caption",), os.getpid())
    assert jobs.cancel(waiting.id).state == "cancelled"
    seen = jobs.cancel(running.id)
    assert (seen.state, seen.cancel_requested) == ("running", True)
    with pytest.raises(Cancelled):
        ProgressReporter(jobs, running.id)(1, 2)


def test_only_other_writers_and_every_one_of_them_show_in_changes(jobs):
    before = jobs.data_version()
    assert jobs.data_version() == before
    job = jobs.submit("ada", "generate", {})
    after = jobs.data_version()
    assert after != before
    Jobs(jobs.database).progress(job.id, 0, 1)
    assert jobs.data_version() == after, "nothing was written: the job is not running"
    Jobs(jobs.database).cancel(job.id)
    assert jobs.data_version() != after


def test_a_job_whose_process_died_is_tried_three_times_and_then_failed(jobs, dead_pid):
    job = jobs.submit("ada", "generate", {})
    for attempt in (1, 2, 3):
        assert jobs.claim(("generate",), dead_pid).attempts == attempt
        jobs.recover()
    seen = jobs.get(job.id)
    assert seen.state == "failed" and "3 times" in seen.error
    assert jobs.claim(("generate",), dead_pid) is None


def test_two_that_look_after_the_same_dead_job_do_not_start_it_twice(jobs, dead_pid, monkeypatch):
    job = jobs.submit("ada", "generate", {})
    jobs.claim(("generate",), dead_pid)
    real = jobs._requeue

    def slowly(stale):
        # Between our look and our write another process takes care of it, and a worker claims it.
        Jobs(jobs.database).recover()
        assert jobs.claim(("generate",), os.getpid()).id == job.id
        real(stale)

    monkeypatch.setattr(jobs, "_requeue", slowly)
    jobs.recover()
    assert jobs.get(job.id).state == "running"


def test_a_running_training_is_left_to_the_worker_who_reads_how_it_ended(jobs, dead_pid):
    job = jobs.submit("ada", "train", {"run": "r"})
    jobs.claim(("train",), dead_pid)
    assert jobs.recover() == [] and jobs.get(job.id).state == "running"


def test_a_dead_publish_is_interrupted_and_never_repeated_by_itself(jobs, dead_pid):
    job = jobs.submit("ada", "publish", {})
    jobs.claim_one(job.id, dead_pid)
    assert [j.state for j in jobs.recover()] == ["interrupted"]


def test_a_job_handed_to_a_living_process_is_nobodys_orphan(jobs, dead_pid):
    job = jobs.submit("ada", "generate", {})
    jobs.claim(("generate",), dead_pid)
    jobs.set_process(job.id, os.getpid())
    assert jobs.recover() == [] and jobs.get(job.id).state == "running"


def test_a_direct_job_whose_process_never_appeared_is_not_left_waiting(jobs):
    job = jobs.submit("ada", "import", {})
    jobs.recover()
    assert jobs.get(job.id).state == "waiting", "it may appear any moment"
    jobs._table.write("UPDATE jobs SET created = created - 100")
    jobs.recover()
    assert jobs.get(job.id).state == "failed"


def test_a_direct_job_runs_in_its_own_process_and_a_bad_payload_ends_in_a_sentence(jobs):
    job = jobs.start(jobs.submit("ada", "import", {"dataset": "../../etc", "files": []}))
    assert job.pid not in (None, os.getpid())
    wait_for(lambda: not jobs.get(job.id).unfinished)
    seen = jobs.get(job.id)
    assert seen.state == "failed" and "is not the id of a dataset" in seen.error


def test_a_direct_process_that_is_killed_leaves_an_interrupted_job(jobs, monkeypatch):
    real = platform.module_command
    monkeypatch.setattr(platform, "module_command", lambda *a, **k: [*real(*a)[:1], "-c", SLEEPER, *real(*a)[3:]])
    job = jobs.start(jobs.submit("ada", "publish", {}), secret=b"hf_canary")
    wait_for(lambda: jobs.get(job.id).state == "running")
    os.kill(jobs.get(job.id).pid, signal.SIGKILL)
    wait_for(lambda: jobs.get(job.id).state == "interrupted")
    assert "killed by signal 9" in jobs.get(job.id).error
    for file in jobs.database.parent.rglob("*"):
        assert file.is_dir() or b"hf_canary" not in file.read_bytes()


SLEEPER = (
    "import sys, os, time; from pathlib import Path; from studio.jobs.queue import Jobs\n"
    "Jobs(Path(sys.argv[1])).claim_one(int(sys.argv[2]), os.getpid()); time.sleep(60)"
)


@pytest.mark.parametrize("body", ["wait()", "swallow(wait); wait()", "fail(wait)"])
def test_cancelling_reaches_a_direct_job_that_waits_for_the_network(jobs, monkeypatch, tmp_path, body):
    # The child blocks in a read nobody answers, like a download from a hub that hangs. An interrupted import may go on, or fail with its own error.
    code = (
        "import sys, os, socket; from pathlib import Path; from studio.jobs import process\n"
        "import types; m = types.ModuleType('hang'); sys.modules['hang'] = m; a, b = socket.socketpair()\n"
        "wait = lambda: a.recv(1)\n"
        "def swallow(f):\n  try: f()\n  except BaseException: pass\n"
        "def fail(f):\n  try: f()\n  except BaseException: raise ModuleNotFoundError('half a module')\n"
        f"def body(home, job, report, secret): {body}\n"
        "m.f = body\n"
        "process.DIRECT_KINDS['download'] = 'hang:f'; process.run_direct(Path(sys.argv[1]), int(sys.argv[2]), None)"
    )
    real = platform.module_command
    monkeypatch.setattr(platform, "module_command", lambda *a, **k: [*real(*a)[:1], "-c", code, *real(*a)[3:]])
    job = jobs.start(jobs.submit("ada", "download", {}))
    wait_for(lambda: jobs.get(job.id).state == "running")
    jobs.cancel(job.id)
    wait_for(lambda: jobs.get(job.id).state != "running")
    assert jobs.get(job.id).state == "cancelled"


@pytest.mark.parametrize(
    ("error", "words"),
    [
        (StudioError("Choose a smaller rank."), "^Choose a smaller rank.$"),
        (RuntimeError("CUDA out of memory. Tried to allocate 2 GiB"), "GPU ran out of memory; choose"),
        (OSError(28, "No space left on device"), "disk is full"),
        (KeyError("tensor.weight"), "a bug in the studio .KeyError.*job.log"),
    ],
)
def test_every_failure_of_a_job_becomes_a_sentence_and_the_process_lives_on(jobs, tmp_path, error, words):
    job = jobs.submit("ada", "generate", {})
    with ErrorBoundary(jobs, jobs.claim(("generate",), os.getpid()), tmp_path / "job.log"):
        raise error
    seen = jobs.get(job.id)
    assert seen.state == "failed"
    assert re.search(words, seen.error)


def test_old_jobs_are_forgotten_but_not_how_trainings_ended(jobs):
    ids = []
    for kind in ("generate", "train", "generate"):
        ids.append(jobs.submit("ada", kind, {}).id)
        jobs.cancel(ids[-1])
    jobs._table.write("UPDATE jobs SET finished = finished - 40 * 86400 WHERE id < ?", ids[2])
    waiting = jobs.submit("ada", "generate", {}).id
    jobs.delete_old()
    assert [job.id for job in jobs.list()] == [waiting, ids[2], ids[1]]


def test_an_unknown_kind_is_refused_with_the_known_ones(jobs):
    with pytest.raises(StudioError, match="choose one of: generate, caption, train, import"):
        jobs.submit("ada", "mine-bitcoin", {})


def test_a_visitor_has_one_training_at_a_time(jobs):
    first = jobs.submit("ada", "train", {"run": "r"}, key="train-r")
    assert jobs.submit("ada", "train", {"run": "r"}, key="train-r") == first
    with pytest.raises(StudioError, match="one training run at a time"):
        jobs.submit("ada", "train", {"run": "s"}, key="train-s")
    assert jobs.submit("bob", "train", {"run": "s"}).unfinished and jobs.submit("ada", "generate", {}).unfinished
    jobs.cancel(first.id)
    assert jobs.submit("ada", "train", {"run": "s"}).unfinished
    assert [jobs.submit("local", "train", {"run": str(n)}).state for n in range(3)] == ["waiting"] * 3


def submit_many(database, start, answers):
    jobs, taken = Jobs(database), 0
    start.wait()
    for _ in range(20):
        with contextlib.suppress(StudioError):
            jobs.submit("ada", "generate", {})
            taken += 1
    answers.put(taken)


def test_a_visitor_has_eight_unfinished_jobs_even_from_many_tabs(jobs):
    context = multiprocessing.get_context("fork")
    start, answers = context.Barrier(4), context.Queue()
    tabs = [context.Process(target=submit_many, args=(jobs.database, start, answers)) for _ in range(4)]
    for tab in tabs:
        tab.start()
    assert sum(answers.get(timeout=30) for _ in tabs) == 8
    for tab in tabs:
        tab.join()
    with pytest.raises(StudioError, match="You have 8 unfinished jobs"):
        jobs.submit("ada", "import", {})
    jobs.finish(jobs.claim(("generate",), os.getpid()).id, {})
    assert jobs.submit("ada", "import", {}).unfinished
    assert all(jobs.submit("local", "generate", {}).unfinished for _ in range(20))


def test_a_database_of_an_older_studio_with_a_column_more_goes_on_working(jobs):
    with sqlite3.connect(jobs.database) as older:
        older.execute("ALTER TABLE jobs ADD COLUMN heartbeat REAL")
    again = Jobs(jobs.database)
    job = again.submit("local", "generate", {"n": 1})
    assert again.claim(("generate",), os.getpid()).id == job.id
    again.progress(job.id, 1, 2)
    assert again.finish(job.id, {"n": 1}) and again.get(job.id).result == {"n": 1}


def trainings(jobs, owner="local", count=4):
    return [jobs.submit(owner, "train", {"run": f"{owner}-{n}"}).id for n in range(count)]


def order(jobs):
    return [job.id for job in jobs.queue(("train",))]


@pytest.mark.parametrize(
    ("moved", "where", "after"),
    [(2, "first", [2, 0, 1, 3]), (2, "up", [0, 2, 1, 3]), (1, "down", [0, 2, 1, 3]), (0, "up", [0, 1, 2, 3]), (3, "down", [0, 1, 2, 3])],
)
def test_people_put_waiting_jobs_in_another_order(jobs, moved, where, after):
    ids = trainings(jobs)
    jobs.move(ids[moved], where)
    assert order(jobs) == [ids[n] for n in after]
    taken = [jobs.claim(("train",), os.getpid()).id for _ in ids]
    assert taken == [ids[n] for n in after], "the queue is taken in the order that was shown"


def test_who_comes_later_stands_behind_those_that_were_moved(jobs):
    ids = trainings(jobs, count=3)
    jobs.move(ids[2], "first")
    jobs.move(ids[0], "down")
    late = jobs.submit("local", "train", {"run": "late"}).id
    assert order(jobs) == [ids[2], ids[1], ids[0], late]


def test_a_move_never_gets_ahead_of_somebody_elses_job(jobs):
    (mine, *_), (theirs, *_) = trainings(jobs, "local", 1), trainings(jobs, "ada", 1)
    later = trainings(jobs, "local", 2)
    jobs.move(later[1], "first")
    assert order(jobs) == [later[1], theirs, mine, later[0]]


def test_what_runs_or_is_over_has_no_place_to_be_moved_from(jobs):
    first, second = trainings(jobs, count=2)
    jobs.claim(("train",), os.getpid())
    with pytest.raises(StudioError, match="is running and cannot be moved"):
        jobs.move(first, "down")
    with pytest.raises(StudioError, match="choose one of first, up, down"):
        jobs.move(second, "sideways")
    assert order(jobs) == [first, second]


def shuffle(database, ids, seed):
    import random

    jobs, chance = Jobs(database), random.Random(seed)
    for _ in range(60):
        with contextlib.suppress(StudioError):
            jobs.move(chance.choice(ids), chance.choice(queue.MOVES))


def test_while_four_processes_move_jobs_every_one_is_claimed_once(jobs):
    ids = trainings(jobs, count=40)
    context = multiprocessing.get_context("fork")
    hands = [context.Process(target=shuffle, args=(jobs.database, ids, seed)) for seed in range(4)]
    for hand in hands:
        hand.start()
    taken = []
    while job := jobs.claim(("train",), os.getpid()):
        taken.append(job.id)
        time.sleep(0.005)
    for hand in hands:
        hand.join()
    assert sorted(taken) == ids
    places = [row["place"] for row in jobs._table.fetch_all("SELECT COALESCE(place, id) AS place FROM jobs")]
    assert len(set(places)) == len(places), "no two jobs share a place"


def test_several_jobs_are_queued_together_or_not_at_all(jobs):
    wanted = [({"run": name}, f"train-{name}") for name in "abc"]
    assert [job.payload["run"] for job in jobs.submit_all("local", "train", wanted)] == ["a", "b", "c"]
    with pytest.raises(StudioError, match="one training run at a time"):
        jobs.submit_all("ada", "train", wanted[:2])
    assert jobs.list("ada") == []


OLDER = """
CREATE TABLE jobs (
    id INTEGER PRIMARY KEY AUTOINCREMENT, owner TEXT NOT NULL, kind TEXT NOT NULL, state TEXT NOT NULL DEFAULT 'waiting', key TEXT,
    payload TEXT NOT NULL, result TEXT NOT NULL DEFAULT '{}',
    done INTEGER NOT NULL DEFAULT 0, total INTEGER NOT NULL DEFAULT 0, seconds_left REAL, message TEXT NOT NULL DEFAULT '',
    error TEXT NOT NULL DEFAULT '', created REAL NOT NULL, started REAL, finished REAL, ticks REAL, seconds REAL,
    pid INTEGER, mark TEXT, attempts INTEGER NOT NULL DEFAULT 0, cancel INTEGER NOT NULL DEFAULT 0);
INSERT INTO jobs (owner, kind, payload, created) VALUES ('local', 'train', '{"run": "a"}', 1), ('local', 'train', '{"run": "b"}', 2);
"""


def test_jobs_that_waited_in_an_older_studio_can_be_moved(tmp_path):
    with sqlite3.connect(tmp_path / "old.db") as older:
        older.executescript(OLDER)
    jobs = Jobs(tmp_path / "old.db")
    jobs.move(2, "first")
    assert order(jobs) == [2, 1] and order(Jobs(tmp_path / "old.db")) == [2, 1]
    with sqlite3.connect(tmp_path / "old.db") as older:
        # A studio that knows of no places may still be open on it.
        older.execute("INSERT INTO jobs (owner, kind, payload, created) VALUES ('local', 'train', '{}', 3)")
    assert order(jobs) == [2, 1, 3]
