"""Gradio's page does not grow slower with every event, no answer is left on a closed stream or on one that nobody reads, and none replaces what was
typed since; tests/browser/test_typing.py shows all but the first."""

import re

import pytest
from starlette.testclient import TestClient

from studio.core.access import Access
from studio.ui import app as ui
from studio.ui.gradio_scripts import ASSETS, CHANGES, changed_scripts


@pytest.mark.parametrize("change", CHANGES, ids=["inputs", "stream", "once", "early", "typed", "opened"])
def test_each_change_fits_once_and_leaves_the_fault_nowhere(change):
    ((name, text),) = changed_scripts([change]).items()
    shipped = (ASSETS / name).read_text(encoding="utf-8")
    assert len(re.findall(change.found, shipped)) == 1 and not re.search(change.found, text)
    assert 10 < len(text) - len(shipped) < 140


def test_the_changed_scripts_are_served_in_place_of_those_of_gradio(page):
    server, url, _ = page
    client = TestClient(server, base_url=url)
    scripts = changed_scripts()
    assert len(scripts) == 4
    for name, text in scripts.items():
        answer = client.get(f"/assets/{name}")
        assert answer.text == text and answer.headers["content-type"].startswith("text/javascript")


def test_hidden_progress_is_shown_nowhere_on_what_is_found_first(home):
    app, _ = ui.build_app(home, Access())
    config = app.get_config_file()
    (nowhere,) = {tuple(each["show_progress_on"]) for each in config["dependencies"] if each["show_progress"] == "hidden"}
    assert config["layout"]["children"][0]["id"] == nowhere[0]
