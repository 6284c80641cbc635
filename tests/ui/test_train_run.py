"""Buttons of the run that the Train tab shows."""

import inspect
from types import SimpleNamespace

import gradio as gr
import pytest

from studio.config.recipe import Recipe
from studio.core.access import Access
from studio.jobs import worker
from studio.ui import app as ui
from tests.trained import finished_run


class Request:
    headers: dict = {}


def test_try_it_requests_the_run_that_is_shown_alone_in_the_stack(home, workspace):
    app, _ = ui.build_app(home, Access())
    try_run = next(event.fn for event in app.fns.values() if event.fn and event.fn.__name__ == "try_run")
    run = finished_run(workspace)
    wish, tabs = try_run(run.id, Request())
    assert (wish.refs, wish.alone) == ((f"run:{run.id}",), True) and isinstance(tabs, gr.Tabs)


def test_train_with_this_dataset_opens_the_form_also_while_a_run_is_watched(home):
    app, _ = ui.build_app(home, Access())
    buttons = [block_id for block_id, block in app.blocks.items() if isinstance(block, gr.Button) and block.value == "Train with this dataset"]
    events = [event for event in app.fns.values() if (buttons[0], "click") in event.targets]
    assert [event.fn()[1].selected for event in events] == ["setup"]


def test_generate_now_requests_the_sample_with_the_trigger_word_and_shows_it_on_its_run_only(home, workspace, monkeypatch):
    monkeypatch.setattr(worker, "ensure", lambda home: None)
    app, studio = ui.build_app(home, Access())
    generate_now, show_now = (
        next(event.fn for event in app.fns.values() if event.fn and event.fn.__name__ == name) for name in ("generate_now", "show_now")
    )
    run, other = finished_run(workspace, "samples.seed=9"), finished_run(workspace)
    requested, shown = generate_now(run.id, Request())
    recipe = Recipe.from_json(studio.jobs.get(requested[1]).payload["recipe"])
    assert (recipe.prompt, recipe.seed) == ("ohwx illustration of a house", 9)
    assert [(entry.adapter, entry.sha256) for entry in recipe.stack] == [(f"run:{run.id}", None)], "the newest weights, not those of a saved step"
    assert "Waits for the next step" in shown
    studio.jobs.claim(("generate",), 1)
    studio.jobs.finish(requested[1], {"images": ["now-1"]})
    assert "studio/file/image/now-1" in show_now(requested, run.id, Request())
    assert show_now(requested, other.id, Request()) == show_now(None, run.id, Request()) == ""


@pytest.mark.parametrize("name", ["extend", "resume", "star", "star_step", "resume_automatically", "stop", "copy_settings", "start_from", "try_run"])
def test_a_button_of_a_run_that_was_removed_elsewhere_acts_on_no_other_run(home, workspace, monkeypatch, name):
    monkeypatch.setattr(worker, "ensure", lambda home: None)
    app, studio = ui.build_app(home, Access())
    event = next(each for each in app.fns.values() if each.fn and each.fn.__name__ == name and "train" in each.fn.__module__)
    left, gone = finished_run(workspace), finished_run(workspace)
    before = (left.config, left.marks)
    workspace.remove(gone.path)
    data = SimpleNamespace(value="500", schedule="", starred="yes", step="150", resumes="yes")
    place = list(inspect.signature(event.fn).parameters).index("request")
    values = [gone.id, [], None][:place]
    with pytest.raises(gr.Error, match="This run no longer exists"):
        event.fn(*values, Request(), *([data] if "event" in inspect.signature(event.fn).parameters else []))
    assert (left.config, left.marks) == before and studio.jobs.list("local") == []


def test_once_the_newest_run_is_shown_in_place_of_a_removed_one_it_is_the_open_one(home, workspace):
    app, _ = ui.build_app(home, Access())
    event = next(each for each in app.fns.values() if each.fn and each.fn.__name__ == "show" and len(each.inputs) == 2)
    left, gone = finished_run(workspace), finished_run(workspace)
    place = event.outputs.index(event.inputs[0])
    assert event.fn(gone.id, [], Request())[place] == event.fn(None, [], Request())[place] == gr.skip()
    workspace.remove(gone.path)
    shown = event.fn(gone.id, [], Request())
    assert shown[place] is None and left.id in str(shown)
