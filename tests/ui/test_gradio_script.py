"""Gradio's page does not grow slower with every event."""

from starlette.testclient import TestClient

from studio.core.access import Access
from studio.ui import app as ui
from studio.ui import gradio_script


def test_the_script_with_the_fault_is_served_without_it(page):
    server, url, _ = page
    (name,) = gradio_script.changed_scripts()
    shipped = (gradio_script.ASSETS / name).read_text(encoding="utf-8")
    answer = TestClient(server, base_url=url).get(f"/assets/{name}")
    assert answer.headers["content-type"].startswith("text/javascript") and "closed`?`input`" in answer.text
    assert gradio_script.FAULT.search(shipped) and not gradio_script.FAULT.search(answer.text)
    assert len(answer.text) == len(shipped) + len("&&s!==`closed`")


def test_hidden_progress_is_shown_nowhere_on_what_is_found_first(home):
    app, _ = ui.build_app(home, Access())
    config = app.get_config_file()
    (nowhere,) = {tuple(each["show_progress_on"]) for each in config["dependencies"] if each["show_progress"] == "hidden"}
    assert config["layout"]["children"][0]["id"] == nowhere[0]
