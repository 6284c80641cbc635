"""What waits, in people's hands: its order, what runs now, when it begins, and that nothing of others is told."""

import re

import pytest

from studio.config import fields
from studio.core.access import Access
from studio.jobs.queue import Jobs
from studio.runs.creation import repeat_run
from studio.ui.components import job_bar, run_list, run_state, run_view
from studio.ui.studio import Studio
from tests.trained import finished_run


@pytest.fixture
def studio(home):
    return Studio(home, Access(), Jobs(home.database))


@pytest.fixture
def queued(studio, workspace):
    """Three runs of 200 steps in the queue."""
    runs = [finished_run(workspace, title=f"<Ink> {n}") for n in range(3)]
    runs = [repeat_run(run, workspace, run.config, run.title) for run in runs]
    return [(run, studio.jobs.submit("local", "train", {"run": run.id}, key=run.job_key)) for run in runs]


def test_the_list_stands_in_the_order_of_the_queue_with_what_can_be_done(studio, queued):
    studio.jobs.move(queued[2][1].id, "first")
    shown = run_list.waiting(studio, "local")
    assert re.findall(r'class="place">(\d)</b>.*?<b>(.*?)</b>', shown) == [("1", "&lt;Ink&gt; 2"), ("2", "&lt;Ink&gt; 0"), ("3", "&lt;Ink&gt; 1")]
    assert 'aria-label="Move &lt;Ink&gt; 0 one up"' in shown and 'aria-label="Take &lt;Ink&gt; 0 out of the queue"' in shown
    ends = re.findall(r'data-job="(\d+)" data-where="(\w+)"[^>]*disabled', shown)
    assert ends == [(str(queued[2][1].id), "first"), (str(queued[2][1].id), "up"), (str(queued[1][1].id), "down")]


def test_what_runs_now_and_when_the_others_begin_is_said(studio, queued):
    studio.jobs.claim(("train",), 1)
    studio.jobs.progress(queued[0][1].id, 120, 200, 300.0)
    shown = run_list.waiting(studio, "local")
    assert "Now: &lt;Ink&gt; 0, step 120 of 200, 5 minutes left." in shown
    # 0.3 s a step in the runs so far.
    assert "200 steps, about 60 seconds, begins in about 5 minutes" in shown and "begins in about 6 minutes" in shown


def test_of_a_run_that_goes_on_only_the_rest_is_counted(studio, workspace):
    run = finished_run(workspace)
    run.write_config(fields.replace(run.config, {"training.max_train_steps": 300}))
    studio.jobs.submit("local", "train", {"run": run.id})
    assert "100 steps to go, about 30 seconds" in run_list.waiting(studio, "local")


def test_one_that_waits_alone_needs_no_order_and_none_no_list(studio, workspace):
    run = finished_run(workspace)
    assert run_list.waiting(studio, "local") == ""
    job = studio.jobs.submit("local", "train", {"run": run.id})
    assert "data-where" not in run_list.waiting(studio, "local") and 'data-click="cancel"' in run_list.waiting(studio, "local")
    studio.jobs.claim(("train",), 1)
    assert run_list.waiting(studio, "local") == "" and studio.jobs.get(job.id).state == "running"


def test_nobody_learns_the_title_of_somebody_elses_run(studio, home):
    theirs, mine = (finished_run(home.workspace(owner), title=f"Of {owner}") for owner in ("ada", "bob"))
    running = studio.jobs.submit("ada", "train", {"run": theirs.id})
    studio.jobs.claim(("train",), 1)
    studio.jobs.progress(running.id, 5, 200, 120.0)
    studio.jobs.submit("carl", "train", {"run": "x"})
    studio.jobs.submit("bob", "train", {"run": mine.id})
    shown = run_list.waiting(studio, "bob")
    assert "Somebody else&#39;s training runs now, 2 minutes left." in shown
    assert "Of ada" not in shown and "Of bob" in shown and 'class="place">2</b>' in shown and "begins" not in shown


def test_taken_out_of_the_queue_a_run_is_not_started_and_can_be(studio, workspace, queued):
    fresh = queued[0][0]
    studio.stop(queued[0][1])
    now = run_state.condition(fresh, run_state.newest_jobs(studio, "local")[fresh.id])
    assert (now.state, now.message, now.can_resume) == ("created", "", True)
    assert "Not started" in run_view.head(fresh, now)
    shown = run_list.listing([fresh], run_state.newest_jobs(studio, "local"), None)
    assert "Not started, 200 steps" in shown and 'data-click="remove"' in shown
    learnt = finished_run(workspace)
    learnt.append({"kind": "extended", "from": 200, "to": 300})
    job = studio.jobs.submit("local", "train", {"run": learnt.id})
    studio.stop(job)
    assert run_state.condition(learnt, studio.jobs.get(job.id)).state == "stopped", "what it had learnt before is kept"


def test_two_to_six_ticked_runs_can_be_compared(studio, workspace):
    runs = [finished_run(workspace) for _ in range(2)]
    ids = [run.id for run in runs]
    assert "type=" not in run_list.listing(runs[:1], {}, None), "one alone cannot be compared"
    assert "Tick 2 to 6" in run_list.listing(runs, {}, None)
    one = run_list.listing(runs, {}, None, ids[:1])
    assert "Tick another" in one and one.count(" checked") == 1
    assert 'data-click="compare">Compare 2 runs' in run_list.listing(runs, {}, None, ids)
    assert "6 at most can be compared" in run_list.listing(runs, {}, None, [str(n) for n in range(7)])


def test_many_that_wait_are_one_line_of_the_bar(studio, workspace, queued):
    shown = job_bar.show(workspace, job_bar.running(studio, "local"))
    assert "3 trainings wait" in shown and "next: &lt;Ink&gt; 0" in shown and shown.count("<li") == 1
    studio.jobs.claim(("train",), 1)
    shown = job_bar.show(workspace, job_bar.running(studio, "local"))
    assert shown.count("<li") == 2 and shown.index("Training &lt;Ink&gt; 0") < shown.index("2 trainings wait")
    studio.jobs.cancel(queued[2][1].id)
    assert "waiting for its turn" in job_bar.show(workspace, job_bar.running(studio, "local"))
