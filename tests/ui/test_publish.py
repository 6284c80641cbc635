"""Saving a LoRA without the Hub, from the Publish tab."""

import asyncio
import zipfile

import pytest

from studio.core.access import Access
from studio.ui import app as ui
from studio.ui.tabs.publish_form import PRIVATE
from tests.trained import finished_run


class Request:
    headers: dict = {}


@pytest.fixture
def handler(home):
    app, _ = ui.build_app(home, Access())

    def run(name: str, *values) -> list[str]:
        async def shown() -> list[str]:
            return [each async for each in next(event.fn for event in app.fns.values() if event.fn and event.fn.__name__ == name)(Request(), *values)]

        return asyncio.run(shown())

    return run


def form(run, rights: str) -> tuple:
    return f"run:{run.id}", None, "ink", PRIVATE, "cc0-1.0", "", "", rights, "", "", "", False, ""


def test_a_zip_is_packed_by_a_job_and_offered(workspace, handler):
    *_, last = handler("save_zip", *form(finished_run(workspace), "I made them."))
    assert "Download the zip" in last and 'href="studio/file/published/ink.zip"' in last
    assert zipfile.is_zipfile(workspace.published / "ink.zip")


def test_a_folder_says_where_it_is(workspace, handler):
    *_, last = handler("save_folder", *form(finished_run(workspace), "I made them."))
    assert f"Saved in <code>{workspace.published}" in last


def test_a_missing_rights_statement_is_reported(workspace, handler):
    *_, last = handler("save_zip", *form(finished_run(workspace), ""))
    assert "right to publish" in last and not list(workspace.published.iterdir())
