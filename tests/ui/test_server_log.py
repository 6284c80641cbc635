"""Values of a call never reach the server's log, whatever the error; the caller gets a message."""

import http.client
import json
import subprocess
import sys
import time
from contextlib import contextmanager

import gradio as gr
import pytest
from starlette.middleware import Middleware

from studio.ui.gate import Gate
from studio.ui.page import Page
from tests.ui.test_gate import ask

TOKEN = "hf_" + "S3cretOfMine" * 3
SERVE = """
import sys, time
from studio.ui import app as ui
from studio.core.access import Access
from studio.core.workspace import Home
app, studio = ui.build_app(Home(sys.argv[1]), Access())
app.launch(**ui.launch_arguments(studio) | {"prevent_thread_lock": True, "quiet": True})
print(f"PORT={app.server_port}", flush=True)
time.sleep(600)
"""


class Server:
    def __init__(self, port: int, log):
        self.port, self.log = port, log
        self.config = json.loads(_get(port, "/config"))

    def inputs(self, name: str) -> int:
        return next(len(each["inputs"]) for each in self.config["dependencies"] if each["api_name"] == name)

    @property
    def names(self) -> list[str]:
        return [each["api_name"] for each in self.config["dependencies"] if each["api_visibility"] == "public"]


def _get(port: int, path: str) -> str:
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=30)
    connection.request("GET", path)
    text = connection.getresponse().read().decode()
    connection.close()
    return text


@pytest.fixture(scope="module")
def server(tmp_path_factory):
    """The whole studio in a process of its own, so that all of its output is captured; no worker."""
    folder = tmp_path_factory.mktemp("served")
    with open(folder / "log", "w") as log:
        child = subprocess.Popen([sys.executable, "-c", SERVE, str(folder / "home")], stdout=log, stderr=subprocess.STDOUT)
    try:
        deadline = time.monotonic() + 60
        while "PORT=" not in (printed := (folder / "log").read_text()):
            assert child.poll() is None and time.monotonic() < deadline, printed
            time.sleep(0.1)
        yield Server(int(printed.partition("PORT=")[2].split()[0]), folder / "log")
    finally:
        child.terminate()
        child.wait()


@contextmanager
def unseen(server: Server):
    """The token must not be in the output of the server."""
    before = server.log.stat().st_size
    yield
    time.sleep(0.2)
    assert TOKEN not in (printed := server.log.read_text()[before:]), printed[-3000:]


def post(port: int, path: str, body: dict) -> tuple[int, str]:
    return ask(port, "POST", f"/gradio_api/{path}", body=json.dumps(body).encode(), Content_Type="application/json")[:2]


def call(port: int, name: str, values: list) -> str:
    """The answer of the endpoint through the queue, as programs call it."""
    event = json.loads(post(port, f"call/{name}", {"data": values})[1])["event_id"]
    return _get(port, f"/gradio_api/call/{name}/{event}")


def test_a_wrong_number_of_values_is_reported_to_the_caller_and_not_printed(server):
    with unseen(server):
        for name in server.names:
            count = server.inputs(name)
            for given in {max(count - 1, 0), count + 1} - {count}:
                answer = call(server.port, name, [TOKEN] * given)
                assert answer.startswith("event: error"), (name, answer)
                assert f"/{name} failed: values expected: {count}" in answer and f"sent: {given}." in answer, (name, answer)


def test_the_error_lists_the_values_of_an_endpoint(server):
    answer = call(server.port, "publish", ["run:x", TOKEN])
    assert "values expected: 9 (adapter, repo, rights, token, private, licence, licence_name, licence_link, base_licence), sent: 2." in answer
    assert TOKEN not in answer


@pytest.mark.parametrize("road", ["run", "api"])
def test_a_call_that_bypasses_the_queue_is_checked_too(server, road):
    with unseen(server):
        status, text = post(server.port, f"{road}/publish", {"data": [TOKEN] * 3})
        assert status == 500 and "/publish failed: values expected: 9" in text


def test_direct_calls_of_page_handlers_print_nothing(server):
    # In one session: each has a state of its own, which takes half of the time.
    with unseen(server):
        for fn in server.config["dependencies"]:
            if fn["inputs"] and fn["backend_fn"]:
                body = {"data": [TOKEN] * (len(fn["inputs"]) - 1), "fn_index": fn["id"], "session_hash": "hand"}
                assert post(server.port, "queue/join", body)[0] == 200
                assert "value" in _get(server.port, "/gradio_api/queue/data?session_hash=hand")


def test_values_of_a_wrong_type_print_nothing(server):
    with unseen(server):
        for name in server.names:
            if server.inputs(name):
                assert call(server.port, name, [{TOKEN: TOKEN}] * server.inputs(name)).startswith(("event: error", "event: complete"))


def test_an_unknown_endpoint_prints_nothing(server):
    with unseen(server):
        assert post(server.port, f"call/{TOKEN}", {"data": []})[0] >= 400
        assert post(server.port, f"call/v2/{TOKEN}", {"token": TOKEN})[0] >= 400
        status, text = post(server.port, "call/v2/publish", {TOKEN: TOKEN})
        assert status >= 400 and text
        assert post(server.port, "queue/join", {"data": [TOKEN], "fn_index": 123456, "session_hash": TOKEN})[0] >= 400
        assert post(server.port, "component_server", {"data": TOKEN, "component_id": 1, "fn_name": TOKEN, "session_hash": TOKEN})[0] >= 400
        assert post(server.port, "run/publish", {"data": TOKEN})[0] == 422


def test_an_exception_in_a_handler_is_logged_with_its_location_and_without_values(capfd, caplog):
    def get_base(name: str) -> str:
        return {}[name]

    def convert(name: str) -> str:
        try:
            return {}[name]
        except KeyError:
            return str(int(name))

    with Page(analytics_enabled=False) as app:
        chosen, number, answer = gr.Dropdown(["a"]), gr.Number(), gr.Textbox()
        gr.Button().click(get_base, chosen, answer, api_name="choose")
        gr.Button().click(get_base, number, answer, api_name="number")
        gr.api(get_base, api_name="get_base")
        gr.api(convert, api_name="convert")
    app.launch(prevent_thread_lock=True, quiet=True, app_kwargs={"middleware": [Middleware(Gate)]}, run_history=False)
    try:
        answers = {name: call(app.server_port, name, [TOKEN]) for name in ("choose", "number", "get_base", "convert")}
    finally:
        app.close()
    printed = "".join(capfd.readouterr()) + caplog.text
    assert TOKEN not in printed
    assert "KeyError" in printed and "in get_base" in printed and "return {}[name]" in printed
    assert "ValueError" in printed and "in convert" in printed
    assert all(answer.startswith("event: error") for answer in answers.values())
    assert "is not in the list of choices" in answers["choose"]
    assert "KeyError" in answers["get_base"] and "/get_base" in answers["get_base"]
