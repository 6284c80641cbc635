"""Saving a LoRA without the Hub, from the Publish tab."""

import time
import zipfile

import gradio as gr
import pytest

from studio.core.access import Access
from studio.ui import app as ui
from studio.ui.components.following import Followed
from studio.ui.tabs.publish_form import PRIVATE
from tests.trained import finished_run


class Request:
    headers: dict = {}


@pytest.fixture
def press(home):
    """press(name, *values) -> the last message: of the handler, or of the signal that follows its job."""
    app, _ = ui.build_app(home, Access())

    def run(name: str, *values) -> str:
        event = next(event for event in app.fns.values() if event.fn and event.fn.__name__ == name)
        changed = next(each.fn for each in app.fns.values() if each.fn and each.fn.__name__ == "changed" and each.inputs[0] is event.outputs[0])
        followed, _, message = event.fn(Request(), None, *values)
        ends = time.monotonic() + 60
        while isinstance(followed, Followed) and time.monotonic() < ends:
            time.sleep(0.05)
            now, _, shown = changed(followed, Request())
            followed, message = (followed if now == gr.skip() else now), (message if shown == gr.skip() else shown)
        return message

    return run


def form(run, rights: str) -> tuple:
    return f"run:{run.id}", None, "ink", PRIVATE, "cc0-1.0", "", "", rights, "", "", "", False, ""


def test_a_zip_is_packed_by_a_job_and_offered(workspace, press):
    last = press("save_zip", *form(finished_run(workspace), "I made them."))
    assert "Download the zip" in last and 'href="studio/file/published/ink.zip"' in last
    assert zipfile.is_zipfile(workspace.published / "ink.zip")


def test_a_folder_says_where_it_is(workspace, press):
    last = press("save_folder", *form(finished_run(workspace), "I made them."))
    assert f"Saved in <code>{workspace.published}" in last


def test_a_missing_rights_statement_is_reported(workspace, press):
    last = press("save_zip", *form(finished_run(workspace), ""))
    assert "right to publish" in last and not list(workspace.published.iterdir())
