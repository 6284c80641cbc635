"""No visitor of a Space and nobody behind a password is told where on the server the studio and its files are."""

import asyncio
import json

import gradio as gr
import pytest
from gradio.state_holder import SessionState
from starlette.requests import Request
from starlette.testclient import TestClient

from studio.core.access import VISITOR_HEADER, Access, Mode
from studio.core.errors import error_message
from studio.core.workspace import Home
from studio.jobs import worker
from studio.ui import app as ui
from studio.ui.components.following import Followed
from studio.ui.components.templates import ENVIRONMENT
from studio.ui.hidden_paths import HiddenPaths
from tests.trained import finished_run

HOST = "studio.example"
VISITOR = "visitor-" + "a" * 32
ACCESS = Access(Mode.space, (HOST,), space_id="someone/studio")

escape = ENVIRONMENT.filters["escape"]


def ask(app: gr.Blocks, handler, state: SessionState) -> str:
    """Everything that a call sends: its values, or its error."""
    headers = [(VISITOR_HEADER.encode(), VISITOR.encode())]
    request = gr.Request(Request({"type": "http", "headers": headers, "client": None, "query_string": b"", "path": "/", "method": "POST"}))
    values = [getattr(each, "value", None) for each in handler.inputs]
    try:
        event = gr.EventData(None, {"id": "x", "job": "1", "place": "x", "index": 0, "value": 1, "path": "x"})
        call = app.process_api(handler, values, state, request, event_data=event)
        return json.dumps(asyncio.run(asyncio.wait_for(call, 5))["data"], default=str)
    except Exception as error:  # noqa: BLE001 - whatever a caller is shown
        return str(error)


def walk(app: gr.Blocks) -> dict[str, str]:
    """Every handler and endpoint with the values that the page begins with."""
    state, handlers = SessionState(app), {number: each for number, each in app.fns.items() if each.fn is not None}
    return {f"{number} {each.api_name} {each.fn.__qualname__}": ask(app, each, state) for number, each in handlers.items()}


def test_no_handler_and_no_endpoint_names_a_path_of_the_server(tmp_path):
    home = Home(tmp_path / "secret-place")
    app, studio = ui.build_app(home, ACCESS)
    run = finished_run(home.workspace(VISITOR))
    # Real errors with paths: a worker that cannot start, and a job that met a bug.
    spent = {"pid": 1, "mark": "no such process", "starts": [worker.time.time()] * worker.MAX_STARTS}
    (home.root / "worker.json").write_text(json.dumps(spent))
    job = studio.jobs.submit(VISITOR, "caption", {"dataset": run.config.dataset.id})
    studio.jobs.claim_one(job.id, 1)
    studio.jobs.fail(job.id, error_message(ValueError("x"), home.logs / "job-1.log"))
    assert str(home.root) in studio.jobs.get(job.id).error
    told = walk(app)
    followers = [handler for handler in app.fns.values() if handler.fn and handler.fn.__name__ == "changed"]
    state = SessionState(app)
    for handler in followers:
        state[handler.inputs[0]._id] = Followed((job.id,), run.config.dataset.id)
        told[f"changed {handler.outputs[-1].elem_id}"] = ask(app, handler, state)
    assert any("the studio's folder" in each for each in told.values()), "a message with a path was sent, and its path was hidden"
    assert not {name: text for name, text in told.items() if str(tmp_path) in text}


def test_a_home_that_breaks_later_is_not_named_either(tmp_path):
    home = Home(tmp_path / "secret-place")
    app, studio = ui.build_app(home, ACCESS)
    (home.root / "owners").write_text("no folder")
    told = walk(app)
    assert any("The folder the studio's folder/owners" in each for each in told.values())
    assert not {name: text for name, text in told.items() if str(tmp_path) in text}
    client = TestClient(gr.routes.App.create_app(app, app_kwargs=ui.launch_arguments(studio)["app_kwargs"]), base_url=f"https://{HOST}")
    for address in ("/", "/config", "/gradio_api/info", "/studio/file/image/x", "/studio/file/dataset/x"):
        assert str(tmp_path) not in client.get(address).text, address


@pytest.mark.parametrize("mode", list(Mode))
def test_paths_are_hidden_from_strangers_and_shown_to_the_user_of_this_computer(home, mode):
    hidden = HiddenPaths.of(home, Access(mode, (HOST,)))
    text = hidden.hide([{"value": f"see {home.logs}/worker.log"}])[0]["value"]
    assert text == (f"see {home.logs}/worker.log" if mode is Mode.local else "see the studio's folder/logs/worker.log")


@pytest.mark.parametrize("spell", [str, lambda path: str(escape(path)), lambda path: json.dumps(path), lambda path: str(escape(json.dumps(path)))])
def test_a_path_is_hidden_in_every_spelling(tmp_path, spell):
    home = Home(tmp_path / "Zoë's & mine")
    hidden = HiddenPaths.of(home, ACCESS)
    assert hidden.hide(f"see {spell(str(home.logs))}").replace('"', "").replace("&#34;", "") == "see the studio's folder/logs"


def test_the_cache_of_the_hub_is_hidden_wherever_it_is(tmp_path, monkeypatch):
    monkeypatch.setenv("HF_HUB_CACHE", str(tmp_path / "hub"))
    assert HiddenPaths.of(Home(tmp_path / "home"), ACCESS).hide(f"{tmp_path}/hub/models--x") == "the cache of the Hub/models--x"


def test_what_the_next_event_sends_back_is_not_rewritten(tmp_path):
    """A rewritten base would be stored with the run, and would not be found."""
    home = Home(tmp_path / "secret-place")
    app, _ = ui.build_app(home, ACCESS)
    base = str(home.root / "own-base")
    sent = {"base": {"__type__": "update", "value": base, "choices": [(base, base)], "info": f"From {base}."}}
    sent |= {
        "filled-with": json.dumps({"values": {"model.base_model": base}}),
        "costs": f"{base} cannot be read.",
        "captions": f"an ink drawing of {base}",
    }

    def answer() -> tuple:
        return tuple(sent.values())

    with app:
        gr.on(None, answer, None, [next(each for each in app.blocks.values() if each.elem_id == name) for name in sent])
    handler = next(each for each in app.fns.values() if each.fn and each.fn.__name__ == "answer")
    shown = json.loads(ask(app, handler, SessionState(app)))
    assert (shown[0]["value"], shown[0]["choices"]) == (base, [["the studio's folder/own-base", base]])
    assert shown[0]["info"] == "From the studio's folder/own-base." and shown[1] == sent["filled-with"]
    assert shown[2] == "the studio's folder/own-base cannot be read." and shown[3] == sent["captions"], "a caption is edited where it is shown"
