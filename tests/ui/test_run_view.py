"""A run on the page: which of its jobs counts, why it ended, and that Stop reaches it."""

import re

import pytest
from starlette.applications import Starlette
from starlette.testclient import TestClient

from studio.config import fields
from studio.core.access import Access
from studio.jobs.queue import Jobs
from studio.ui import files
from studio.ui.components import estimate, run_card, run_state, run_view
from studio.ui.studio import Studio
from tests.trained import finished_run, keep_state


@pytest.fixture
def studio(home):
    return Studio(home, Access(), Jobs(home.database))


def test_a_running_job_takes_precedence_over_a_waiting_one(studio):
    first, second = (studio.jobs.submit("local", "train", {"run": "ink"}) for _ in range(2))
    assert run_state.newest_jobs(studio, "local")["ink"].id == second.id
    studio.jobs.claim(("train",), 1)
    assert run_state.newest_jobs(studio, "local")["ink"].id == first.id
    studio.jobs.finish(first.id, {})
    assert run_state.newest_jobs(studio, "local")["ink"].id == second.id


def test_one_unfinished_training_of_a_run_whoever_asks(studio, workspace):
    run = finished_run(workspace)
    first, second = (studio.jobs.submit("local", "train", {"run": run.id}, key=run.job_key) for _ in range(2))
    assert first.id == second.id


def test_an_interrupted_run_says_how_it_ended(studio, workspace):
    run = finished_run(workspace)
    run.append({"kind": "started", "step": 200, "total": 400, "resumed": True})
    job = studio.jobs.submit("local", "train", {"run": run.id})
    studio.jobs.claim(("train",), 1)
    studio.jobs.interrupt(job.id, "Training stopped unexpectedly at step 29 (killed by signal 9); press Resume to continue from the last checkpoint.")
    now = run_state.condition(run, studio.jobs.get(job.id))
    assert now.state == "interrupted" and "killed by signal 9" in run_view.head(run, now)
    assert "notice" not in run_view.head(run, run_state.condition(run, None))


def test_stop_reaches_a_training_itself_and_nothing_else(studio, workspace):
    run = finished_run(workspace)
    waiting = studio.jobs.submit("local", "train", {"run": run.id})
    studio.stop(waiting)
    assert not run.stop_requested and studio.jobs.get(waiting.id).state == "cancelled"
    running = studio.jobs.submit("local", "train", {"run": run.id})
    studio.jobs.claim(("train",), 1)
    studio.stop(running)
    assert run.stop_requested and studio.jobs.get(running.id).cancel_requested


def test_an_event_without_its_numbers_costs_itself_alone(studio, workspace):
    run = finished_run(workspace, steps=(100, 150, 200))
    for event in ({"kind": "validation", "loss": None}, {"kind": "validation"}, {"kind": "step", "loss": None}, {"kind": "step"}):
        run.append({"step": 250, **event})
    run.append({"kind": "step", "step": 300, "loss": 0.5, "effective_lr": 0.1})
    for event in ({"kind": "note"}, {"kind": "skipped"}, {"kind": "preflight", "peak_mb": None}, {"kind": "failed", "step": 300}):
        run.append(event)
    job = studio.jobs.submit("local", "train", {"run": run.id})
    studio.jobs.claim(("train",), 1)
    now = run_state.condition(run, studio.jobs.get(job.id))
    assert now.step == 300 and "step 300" in run_view.loss(now)
    assert "step 300 of 200" in run_view.head(run, now) and "s per step" not in run_view.head(run, now)
    assert estimate.seconds_per_step(workspace, run.config) is None


def failed(run, retries):
    run.append({"kind": "started", "step": 0, "total": 200})
    run.append({"kind": "failed", "step": 3, "message": "The memory is not enough.", "retries": retries})


def test_a_failed_run_has_a_button_per_retry(workspace):
    run = finished_run(workspace)
    failed(run, [{"title": "batch size <1>", "set": {"training.train_batch_size": 1}}, {"title": "rank 8", "set": {"lora.rank": 8}}])
    now = run_state.condition(run, None)
    shown = run_view.help_first(run, now)
    assert 'data-click="retry" data-number="0">Try again with batch size &lt;1&gt;<' in shown and 'data-number="1">Try again with rank 8<' in shown
    assert 'data-click="extend"' not in run_view.actions(run, now)
    run.append({"kind": "started", "step": 3, "total": 200})
    assert run_view.help_first(run, run_state.condition(run, None)) == ""


def test_a_finished_run_can_be_extended_by_half(workspace):
    run = finished_run(workspace)
    shown = run_view.actions(run, run_state.condition(run, None))
    assert 'value="100"' in shown and shown.count('data-click="extend" data-with="#extra-steps" data-schedule="keep"') == 1
    assert "new schedule" not in shown, "the rate is constant, so there is nothing to choose"
    assert 'data-click="start_from"' in shown and 'data-click="copy"' in shown


def extend_buttons(run) -> list[tuple[str, str]]:
    """(class, schedule) of each button that extends the run."""
    shown = run_view.actions(run, run_state.condition(run, None))
    return re.findall(r'class="([^"]*)" data-click="extend" data-with="#extra-steps" data-schedule="(\w+)"', shown)


def test_a_decayed_run_offers_its_last_rate_or_a_new_schedule(workspace):
    linear = finished_run(workspace, "training.lr_scheduler=linear", "training.lr_warmup_steps=150")
    assert extend_buttons(linear) == [("tool strong", "keep"), ("tool", "new")]
    cosine = finished_run(workspace, "training.lr_scheduler=cosine")
    assert extend_buttons(cosine) == [("tool strong", "new"), ("tool", "keep")]
    shown = run_view.actions(cosine, run_state.condition(cosine, None))
    assert "ended at 6.2e-09" in shown and "0.006% of the full rate" in shown and "next to nothing" in shown


def test_an_extended_run_tells_how_it_went_on(workspace):
    run = finished_run(workspace, "training.lr_scheduler=cosine")
    keep_state(run, 200)
    run.extend(100, "keep")
    shown = run_view.head(run, run_state.condition(run, None))
    assert "Extended by 100 steps after step 200, at the last learning rate, 6.2e-09, constant." in shown


def test_a_resumed_run_does_not_show_the_time_of_its_last_part_as_its_own(studio, workspace):
    run = finished_run(workspace)
    job = studio.jobs.submit("local", "train", {"run": run.id})
    studio.jobs.claim(("train",), 1)
    studio.jobs.finish(job.id, {})
    studio.jobs._table.write("UPDATE jobs SET seconds = 60")
    assert "in 60 seconds" in run_view.head(run, run_state.condition(run, studio.jobs.get(job.id)))
    run.append({"kind": "started", "step": 200, "total": 300})
    run.append({"kind": "finished", "step": 300, "seconds": 30})
    assert "seconds" not in run_view.head(run, run_state.condition(run, studio.jobs.get(job.id)))


def test_the_validation_curve_is_explained(workspace):
    run = finished_run(workspace)
    for step in range(1, 100):
        run.append({"kind": "step", "step": step, "loss": 0.5, "seconds_per_step": 0.3})
    assert "Dashed" not in run_view.loss(run_state.condition(run, None))
    for step, value in ((20, 0.5), (40, 0.3), (60, 0.4)):
        run.append({"kind": "validation", "step": step, "loss": value})
    shown = run_view.loss(run_state.condition(run, None))
    assert 'path class="validation"' in shown and "lowest at step 40" in shown and "when it rises again, the LoRA overfits" in shown


@pytest.mark.parametrize(
    ("optimizer", "shown"),
    [
        ("prodigy", "learning rate 0.5 x d 0.00031"),
        ("adafactor_relative", "learning rate 0.00015, the mean of all layers"),
        ("adamw", ""),
    ],
)
def test_the_learning_rate_that_an_optimizer_found_is_shown(optimizer, shown, workspace):
    run = finished_run(workspace)
    run.write_config(fields.replace(run.config, {"training.optimizer": optimizer}))
    found = {"effective_lr": 0.5 * 3.1e-4} if shown else {}
    run.append({"kind": "step", "step": 200, "loss": 0.5, "lr": 0.5, "seconds_per_step": 0.3, **found})
    for state in ("finished", "stopped"):
        run.append({"kind": state, "step": 200})
        head = run_view.head(run, run_state.condition(run, None))
        assert shown in head and ("learning rate" in head) == bool(shown)


def test_the_lora_of_every_column_can_be_downloaded_under_a_name_of_its_own(studio, workspace):
    run = finished_run(workspace, title="Emoji · rank 16 · 1,500 steps · 27 Nov")
    now = run_state.condition(run, None)
    grid, file = run_view.sample_grid(run, now), run_view.file(run, local=True)
    for step in (100, 200):
        assert f'href="studio/file/adapter/{run.id}/{step}" download' in grid
    assert f"adapter/{run.id}/200" in file and "Download, " in file and str(run.adapter_at(200)) in file
    assert "rights" not in grid + file
    assert str(workspace.root) not in run_view.file(run, local=False) + grid, "no path of the server reaches another computer"
    client = TestClient(Starlette(routes=files.routes(studio)))
    answer = client.get(f"/studio/file/adapter/{run.id}/100")
    assert answer.content == run.adapter_at(100).read_bytes()
    assert 'filename="emoji-rank-16-1500-steps-27-nov-100.safetensors"' in answer.headers["content-disposition"]
    assert client.get(f"/studio/file/adapter/{run.id}/150").status_code == 404


def test_the_grid_keeps_base_newest_and_starred_columns_and_others_at_even_distances():
    steps = list(range(0, 2001, 50))
    assert run_view.shown_steps(steps[:12]) == steps[:12]
    shown = run_view.shown_steps(steps, starred=(450,))
    assert len(shown) == run_view.MAX_COLUMNS and {0, 450, 2000} <= set(shown)
    assert max(after - before for before, after in zip(shown, shown[1:])) <= 400


def test_a_run_whose_base_is_missing_offers_another_base_first(workspace):
    run = finished_run(workspace, "model.base_model=ada/gone", "model.family=stable_diffusion")
    run.events_file.unlink()
    run.append({"kind": "failed", "step": 0, "message": "ada/gone is not on the Hub under that name."})
    now = run_state.condition(run, None)
    assert run_view.lacks_base(run, now) and 'data-scroll="#base" data-gently>Choose another base' in run_view.help_first(run, now)
    run.append({"kind": "step", "step": 5, "loss": 0.1, "seconds_per_step": 0.1})
    assert not run_view.lacks_base(run, run_state.condition(run, None)), "it had the base when it trained"


def test_the_card_of_a_run_names_what_it_is_and_shows_its_newest_sample_with_the_trigger_word(workspace):
    run = finished_run(workspace, 'samples.prompts=["a house", "[trigger] house"]', title="<Ink>")
    run.star(True)
    shown = run_card.show(run, run_state.condition(run, None))
    assert f"sample/{run.id}/200/1" in shown and "&lt;Ink&gt;" in shown and "Finished, 200 steps" in shown and "★" in shown
    assert "small world · ohwx · " in shown


def test_an_unfinished_run_can_be_set_to_resume_automatically(workspace):
    run = finished_run(workspace)
    assert "Resume automatically" not in run_view.actions(run, run_state.condition(run, None))
    run.append({"kind": "started", "step": 200, "total": 300})
    assert 'aria-checked="false" data-click="resume_automatically" data-resumes="yes"' in run_view.actions(run, run_state.condition(run, None))
    run.resume_automatically(True)
    assert 'aria-checked="true" data-click="resume_automatically" data-resumes="no"' in run_view.actions(run, run_state.condition(run, None))
