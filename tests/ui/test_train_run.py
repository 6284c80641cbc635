"""Buttons of the run that the Train tab shows."""

import gradio as gr

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
