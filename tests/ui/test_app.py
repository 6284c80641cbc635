"""The page as a whole: its imports, and access to files."""

import subprocess
import sys
from types import SimpleNamespace

import gradio as gr
import pytest
from starlette.testclient import TestClient

from studio.core.access import Access, Mode
from studio.core.errors import StudioError
from studio.datasets.dataset import Dataset
from studio.ui import app as ui
from studio.ui import files
from studio.ui.components.following import Followed
from studio.ui.tabs import publish_send


def test_building_and_loading_every_tab_does_not_import_torch(tmp_path):
    """In a process of its own, since other tests of this one need torch."""
    code = """
import sys
from studio.ui import app
from studio.core.access import Access
from studio.core.workspace import Home
app, studio = app.build_app(Home(sys.argv[1]), Access())
events = [fn for fn in app.fns.values() if any(name in ("load", "opened") for _, name in fn.targets)]
class Request: headers = {}
class Opened: address, drafts, dataset, number = {}, {}, "", 1
for event in events:
    given = [component.value for component in event.inputs]
    if "request" in event.fn.__annotations__ or "request" in event.fn.__code__.co_varnames:
        given.append(Request())
    if "event" in event.fn.__code__.co_varnames:
        given.append(Opened())
    event.fn(*given)
heavy = {"torch", "transformers", "diffusers", "peft", "accelerate"} & set(sys.modules)
print(len(events), sorted(heavy))
assert not heavy
"""
    done = subprocess.run([sys.executable, "-c", code, str(tmp_path)], capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 0, done.stderr[-2000:]


def test_a_training_is_shown_however_many_images_are_generated_meanwhile(home):
    class Request:
        headers: dict = {}

    app, studio = ui.build_app(home, Access())
    poll = next(event.fn for event in app.fns.values() if event.fn and event.fn.__qualname__.startswith("poll_jobs"))
    training = studio.jobs.submit("local", "train", {"run": "gone"})
    studio.jobs.claim(("train",), 1)
    for kind in ("generate", "caption"):
        for _ in range(25):
            studio.jobs.submit("local", kind, {})
    version, states, progress, _ = poll(None, None, None, Request())
    studio.jobs.progress(training.id, 5, 60)
    version, same, moved, _ = poll(version, states, progress, Request())
    assert same == gr.skip() and (training.id, "running", 5, "") in moved
    studio.jobs.finish(training.id, {})
    version, ended, moved, _ = poll(version, states, moved, Request())
    assert ended != gr.skip() and moved != gr.skip()


def test_run_history_is_off_so_that_no_token_stays_in_the_browser(page):
    _, _, studio = page
    assert ui.launch_arguments(studio)["run_history"] is False


def test_local_mode_listens_on_this_computer_only(page):
    _, _, studio = page
    assert ui.launch_arguments(studio)["server_name"] == "127.0.0.1"


def test_the_file_route_serves_only_the_callers_files(page):
    server, _, studio = page
    workspace = studio.home.workspace("local")
    dataset = Dataset.from_samples(workspace, "character")
    image = dataset.images[0]
    client = TestClient(server, base_url=page[1])

    def fetch(*parts: object):
        return client.get("/" + files.url(*parts))

    assert fetch("picture", dataset.id, image.id).content == image.file.read_bytes()
    assert fetch("thumb", dataset.id, image.id).status_code == 200
    assert fetch("dataset", dataset.id).headers["content-type"] == "application/zip"
    assert fetch("builtin", "samples", "style", "01.png").status_code == 200
    for parts in (
        ("picture", dataset.id, "0" * 64), ("picture", "no-such", image.id), ("image", "../../studio.db"), ("image", "x"),
        ("builtin", "model", "model_index.json"), ("builtin", "samples", "..", "..", "README.md"), ("builtin", "samples", "style", "01.txt"),
        ("mask", dataset.id, image.id), ("mask", dataset.id, "..", "masks.jsonl"),
        ("sample", "x", "0", "0"), ("published", "../studio.db"), ("published", "secret.txt"), ("nothing",),
    ):  # fmt: skip
        answer = fetch(*parts)
        assert answer.status_code == 404, parts
        assert answer.headers["x-content-type-options"] == "nosniff"
    assert fetch("image", "x").headers["cache-control"] == "no-store", "the image may exist later"
    assert "max-age" in fetch("thumb", dataset.id, image.id).headers["cache-control"]


def test_two_visitors_of_a_space_have_different_workspaces(home):
    class Visitor:
        def __init__(self, name: str):
            self.headers = {"x-studio-visitor": name}

    access = Access(mode=Mode.space)
    mine = Dataset.from_samples(home.workspace(access.owner(Visitor("a" * 20))), "style")
    with pytest.raises(StudioError):
        files.find(home.workspace(access.owner(Visitor("b" * 20))), ["dataset", mine.id])


def test_no_state_of_the_page_holds_a_token(page):
    _, _, studio = page
    app, _ = ui.build_app(studio.home, studio.access)
    tokens = [block for block in app.blocks.values() if isinstance(block, gr.Textbox) and block.type == "password"]
    states = {block._id for block in app.blocks.values() if isinstance(block, gr.State)}
    # The number of a job that is followed; the test below looks at what it holds.
    states -= {event.inputs[0]._id for event in app.fns.values() if event.fn and event.fn.__name__ == "changed"}
    assert len(tokens) == 1
    for event in app.fns.values():
        if tokens[0] in event.inputs:
            assert not states & {component._id for component in event.outputs}


def test_a_publication_is_followed_without_its_token(page, monkeypatch):
    _, _, studio = page
    app, _ = ui.build_app(studio.home, studio.access)
    job = studio.jobs.submit("local", "publish", {"repo": "ink"})
    monkeypatch.setattr(publish_send, "start_publishing", lambda *_: job)
    send = next(event.fn for event in app.fns.values() if event.fn and event.fn.__name__ == "send")
    followed, signal, token, *_ = answer = send(SimpleNamespace(headers={}), None, "hf_secret", True)
    assert followed == Followed((job.id,)) and "data-followed" in signal and token == "" and "hf_secret" not in repr(answer)
    studio.jobs.cancel(job.id)
