"""Buttons of the run that the Train tab shows."""

import gradio as gr

from studio.core.access import Access
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
