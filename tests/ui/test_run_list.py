"""The training queue and the list of runs: order, current run, expected start, and nothing about other users' runs."""

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


def test_the_queue_is_listed_in_order_with_its_buttons(studio, queued):
    studio.jobs.move(queued[2][1].id, "first")
    shown = run_list.waiting(studio, "local")
    assert re.findall(r'class="place">(\d)</b>.*?<b>(.*?)</b>', shown) == [("1", "&lt;Ink&gt; 2"), ("2", "&lt;Ink&gt; 0"), ("3", "&lt;Ink&gt; 1")]
    assert 'aria-label="Move &lt;Ink&gt; 0 up"' in shown and 'aria-label="Remove &lt;Ink&gt; 0 from the queue"' in shown
    ends = re.findall(r'data-job="(\d+)" data-where="(\w+)"[^>]*disabled', shown)
    assert ends == [(str(queued[2][1].id), "first"), (str(queued[2][1].id), "up"), (str(queued[1][1].id), "down")]


def test_the_current_run_and_the_expected_starts_are_shown(studio, queued):
    studio.jobs.claim(("train",), 1)
    studio.jobs.progress(queued[0][1].id, 120, 200, 300.0)
    shown = run_list.waiting(studio, "local")
    assert "Now: &lt;Ink&gt; 0, step 120 of 200, 5 minutes left." in shown
    # 0.3 s per step in the runs so far.
    assert "200 steps, about 60 seconds, starts in about 5 minutes" in shown and "starts in about 6 minutes" in shown


def test_of_an_extended_run_only_the_remaining_steps_count(studio, workspace):
    run = finished_run(workspace)
    run.write_config(fields.replace(run.config, {"training.max_train_steps": 300}))
    studio.jobs.submit("local", "train", {"run": run.id})
    assert "100 steps to go, about 30 seconds" in run_list.waiting(studio, "local")


def test_a_single_waiting_run_cannot_be_moved_and_an_empty_queue_is_hidden(studio, workspace):
    run = finished_run(workspace)
    assert run_list.waiting(studio, "local") == ""
    job = studio.jobs.submit("local", "train", {"run": run.id})
    assert "data-where" not in run_list.waiting(studio, "local") and 'data-click="cancel"' in run_list.waiting(studio, "local")
    studio.jobs.claim(("train",), 1)
    assert run_list.waiting(studio, "local") == "" and studio.jobs.get(job.id).state == "running"


def test_the_title_of_another_users_run_is_not_shown(studio, home):
    theirs, mine = (finished_run(home.workspace(owner), title=f"Of {owner}") for owner in ("ada", "bob"))
    running = studio.jobs.submit("ada", "train", {"run": theirs.id})
    studio.jobs.claim(("train",), 1)
    studio.jobs.progress(running.id, 5, 200, 120.0)
    studio.jobs.submit("carl", "train", {"run": "x"})
    studio.jobs.submit("bob", "train", {"run": mine.id})
    shown = run_list.waiting(studio, "bob")
    assert "Another user&#39;s training is running, 2 minutes left." in shown
    assert "Of ada" not in shown and "Of bob" in shown and 'class="place">2</b>' in shown and "starts" not in shown


def test_a_run_removed_from_the_queue_can_still_be_started(studio, workspace, queued):
    fresh = queued[0][0]
    studio.stop(queued[0][1])
    now = run_state.condition(fresh, run_state.newest_jobs(studio, "local")[fresh.id])
    assert (now.state, now.message, now.can_resume) == ("created", "", True)
    assert "Not started" in run_view.head(fresh, now)
    shown = run_list.listing([fresh], run_state.newest_jobs(studio, "local"), None)
    assert "Not started, 200 steps" in shown and 'data-click="remove"' in shown
    trained = finished_run(workspace)
    trained.append({"kind": "extended", "from": 200, "to": 300})
    job = studio.jobs.submit("local", "train", {"run": trained.id})
    studio.stop(job)
    assert run_state.condition(trained, studio.jobs.get(job.id)).state == "stopped", "what was trained before is kept"


def test_two_to_six_selected_runs_can_be_compared(studio, workspace):
    runs = [finished_run(workspace) for _ in range(2)]
    ids = [run.id for run in runs]
    assert "type=" not in run_list.listing(runs[:1], {}, None), "one alone cannot be compared"
    assert "Select 2 to 6" in run_list.listing(runs, {}, None)
    one = run_list.listing(runs, {}, None, ids[:1])
    assert "Select another" in one and one.count(" checked") == 1
    assert 'data-click="compare">Compare 2 runs' in run_list.listing(runs, {}, None, ids)
    assert "at most 6 can be compared" in run_list.listing(runs, {}, None, [str(n) for n in range(7)])


def test_several_waiting_runs_share_one_line_of_the_job_bar(studio, workspace, queued):
    shown = job_bar.show(workspace, job_bar.running(studio, "local"))
    assert "3 trainings waiting" in shown and "next: &lt;Ink&gt; 0" in shown and shown.count("<li") == 1
    studio.jobs.claim(("train",), 1)
    shown = job_bar.show(workspace, job_bar.running(studio, "local"))
    assert shown.count("<li") == 2 and shown.index("Training &lt;Ink&gt; 0") < shown.index("2 trainings waiting")
    studio.jobs.cancel(queued[2][1].id)
    assert "waiting in the queue" in job_bar.show(workspace, job_bar.running(studio, "local"))
