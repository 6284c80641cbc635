"""A run as the page shows it: which of its jobs counts, why it ended, and that Stop reaches it."""

import pytest

from studio.access import Access
from studio.jobs import Jobs
from studio.ui import runs_view
from studio.ui.studio import Studio
from tests.trained import finished_run


@pytest.fixture
def studio(home):
    return Studio(home, Access(), Jobs(home.database))


def test_a_job_that_runs_counts_before_one_that_waits_behind_it(studio):
    first, second = (studio.jobs.submit("local", "train", {"run": "ink"}) for _ in range(2))
    assert runs_view.newest_jobs(studio, "local")["ink"].id == second.id
    studio.jobs.claim(("train",), 1)
    assert runs_view.newest_jobs(studio, "local")["ink"].id == first.id
    studio.jobs.finish(first.id, {})
    assert runs_view.newest_jobs(studio, "local")["ink"].id == second.id


def test_one_unfinished_training_of_a_run_whoever_asks(studio, workspace):
    run = finished_run(workspace)
    first, second = (studio.jobs.submit("local", "train", {"run": run.id}, key=run.job_key) for _ in range(2))
    assert first.id == second.id


def test_an_interrupted_run_says_how_it_ended(studio, workspace):
    run = finished_run(workspace)
    run.append({"kind": "started", "step": 200, "total": 400, "resumed": True})
    job = studio.jobs.submit("local", "train", {"run": run.id})
    studio.jobs.claim(("train",), 1)
    studio.jobs.interrupt(job.id, "Training stopped unexpectedly at step 29 (killed by signal 9); nothing is lost: press Resume.")
    now = runs_view.condition(run, studio.jobs.get(job.id))
    assert now.state == "interrupted" and "killed by signal 9" in runs_view.head(run, now)
    assert "notice" not in runs_view.head(run, runs_view.condition(run, None))


def test_stop_reaches_a_training_itself_and_nothing_else(studio, workspace):
    run = finished_run(workspace)
    waiting = studio.jobs.submit("local", "train", {"run": run.id})
    studio.stop(waiting)
    assert not run.stop_requested and studio.jobs.get(waiting.id).state == "cancelled"
    running = studio.jobs.submit("local", "train", {"run": run.id})
    studio.jobs.claim(("train",), 1)
    studio.stop(running)
    assert run.stop_requested and studio.jobs.get(running.id).cancel_requested
