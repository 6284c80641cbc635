"""Ownership: the built page is called with the ids of one visitor by that visitor, by another one, and without a visitor cookie.

The table is generated: every handler, endpoint and file URL of the page, with one id of each kind. For the other visitor an id of the owner and
an id that does not exist give the same answer or the same error. Nothing of the owner is shown to others or changed by them.
"""

import asyncio
import hashlib
import inspect
import os
import random
import re
import secrets
import shutil
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from types import SimpleNamespace

import gradio as gr
import pytest
from gradio.blocks import BlockFunction
from gradio.helpers import special_args
from pydantic import SecretStr
from starlette.requests import Request
from starlette.testclient import TestClient

from studio.config import TrainConfig
from studio.config.recipe import Recipe, StackEntry, add_recipe
from studio.core import platform
from studio.core.access import VISITOR_HEADER, Access, Mode
from studio.core.workspace import Home, Workspace, new_id
from studio.datasets.dataset import Dataset
from studio.datasets.importing.images import decode_files
from studio.generation.init_images import keep_init_image
from studio.jobs import worker
from studio.jobs.queue import UNFINISHED, Jobs
from studio.runs import starting_points
from studio.ui import app as ui
from studio.ui import files
from studio.ui.gate import COOKIE
from studio.ui.studio import Studio
from tests.trained import finished_run, png, write_tiny_adapter

MARK = "Ящик"
"""Part of every title, caption, prompt and trigger word of the owner, and of no id, because ids keep Latin letters only."""
EVENT_KEYS = sorted({key for path in Path(ui.__file__).parent.rglob("*.py") for key in re.findall(r"\bevent\.([a-z_]+)", path.read_text())})
MOST_INPUTS = 5
"""How many of a handler's inputs get the id alone, the others as they are at first; the settings of the Train form behind them are no ids."""
HOST = "studio.example"
COOKIES = {"owner": "a" * 43, "other": "b" * 43}
OWNERS = {who: "visitor-" + hashlib.sha256(cookie.encode()).hexdigest()[:32] for who, cookie in COOKIES.items()} | {"no cookie": None}


@dataclass(frozen=True)
class Handle:
    """An id of something that the owner has, and an id of the same form that does not exist."""

    kind: str
    real: str
    missing: str


@dataclass(frozen=True)
class House:
    """The page in Space mode. One visitor, the owner, has one of everything."""

    app: gr.Blocks
    studio: Studio
    handles: list[Handle]
    addresses: list[Handle]
    loop: asyncio.Runner

    @property
    def home(self) -> Home:
        return self.studio.home

    @property
    def jobs(self) -> Jobs:
        return self.studio.jobs

    def owned_state(self) -> dict:
        """All files and jobs of the owner."""
        files = [path for path in self.home.workspace(OWNERS["owner"]).root.rglob("*") if path.is_file()]
        return {path: (path.stat().st_mtime_ns, path.stat().st_size) for path in files} | {job.id: job for job in self.jobs.list(OWNERS["owner"])}

    def forget_others(self, workspaces: bool = False) -> None:
        """Delete what others have, so that every call begins with the same state; with `workspaces`, the empty ones too."""
        for folder in (self.home.root / "owners").iterdir():
            if folder.name != OWNERS["owner"] and (workspaces or any(any(each.iterdir()) for each in folder.iterdir())):
                shutil.rmtree(folder)
        self.jobs._table.write("DELETE FROM jobs WHERE owner != ?", OWNERS["owner"])

    def call(self, handler: BlockFunction, values: list, who: str, handle: str, seconds: float = 10) -> str:
        """The answer or the error as text, without the ids that are new in each call, and with HANDLE in place of the given id."""
        self.forget_others()
        random.seed(0)
        headers = [(VISITOR_HEADER.encode(), OWNERS[who].encode())] if OWNERS[who] else []
        request = gr.Request(Request({"type": "http", "headers": headers, "client": None, "query_string": b"", "path": "/", "method": "POST"}))
        # Gradio refuses an event whose path is not an upload, whatever the handler does.
        keys = [key for key in EVENT_KEYS if key != "path" or os.sep in handle]
        event = gr.EventData(None, dict.fromkeys(keys, handle) | {"index": 0, "number": 0, "where": "first"})
        try:
            inputs = special_args(handler.fn, list(values), request, event)[0]
            answer = self.loop.run(asyncio.wait_for(_collect(handler.fn, inputs), seconds))
        except Exception as error:  # noqa: BLE001 - whatever a handler raises is its answer
            answer = f"{type(error).__name__}: {error}"
        text = _plain(answer)
        for part in (handle, handle.split(":")[-1].split("@")[0]):
            text = text.replace(part, "HANDLE")
        return re.sub(r"[0-9a-f]{12,}|'(?:job|stack|base)': \d+|ids=\([\d, ]+\)|data-(?:job|followed)=\"[\d ]+\"|time=[\d.]+", "NEW", text)


async def _collect(function, inputs: list):
    if inspect.isasyncgenfunction(function):
        return [answer async for answer in function(*inputs)]
    if inspect.isgeneratorfunction(function):
        return list(function(*inputs))
    answer = function(*inputs)
    return await answer if inspect.iscoroutine(answer) else answer


def _plain(answer) -> str:
    """As text; of a component what it was made with, since its own text is an address in memory."""
    if isinstance(answer, dict):
        return "{" + ", ".join(f"{_plain(key)}: {_plain(value)}" for key, value in answer.items()) + "}"
    if isinstance(answer, list | tuple):
        return "[" + ", ".join(_plain(each) for each in answer) + "]"
    if isinstance(answer, gr.blocks.Block):
        return f"{type(answer).__name__}{_plain(answer.constructor_args)}"
    return repr(answer)


def other(identity: str) -> str:
    """An id of the same form: the last of its random digits are others."""
    *_, last = re.finditer(r"[0-9a-f]{8,}", identity)
    at = last.end() - 6
    return identity[:at] + identity[at : last.end()].translate(str.maketrans("0123456789abcdef", "123456789abcdef0")) + identity[last.end() :]


def fill(workspace: Workspace, jobs: Jobs) -> tuple[list[Handle], list[Handle]]:
    """Give the owner one of everything. Returns handles of these things, and the addresses of their files."""
    run = finished_run(workspace, title=f"{MARK} run", steps=(100,))
    dataset = Dataset.open(workspace, run.config.dataset.id)
    dataset.set_trigger_word(f"{MARK}word")
    for image in dataset.images:
        dataset.set_caption(image.id, f"{MARK} caption", "hand")
    with dataset.incoming() as folder:
        (folder / "mask-of-it.png").write_bytes(png(128, size=64))
        mask = {"path": folder / "mask-of-it.png", "name": "mask-of-it.png", "mask_of": dataset.images[0].id}
        dataset.add(decode_files([mask], folder, existing=dataset.images), folder)
    image_id, adapter_id = new_id("image"), new_id("lora")
    recipe = Recipe(prompt=f"{MARK} prompt", stack=[StackEntry(adapter=f"run:{run.id}", weight=1.0)])
    workspace.image_path(image_id).write_bytes(add_recipe(png(7, size=32), recipe))
    init_id = keep_init_image(workspace, workspace.image_path(image_id))
    write_tiny_adapter(workspace.adapter_path(adapter_id), {"trigger_word": f"{MARK}word", "title": f"{MARK} lora"})
    preset = starting_points.save(workspace, MARK, TrainConfig()).name
    (workspace.published / f"{run.id}.zip").write_bytes(b"PK")
    removed = {
        "removed run": workspace.remove(finished_run(workspace, title=f"{MARK} removed").path),
        "removed dataset": workspace.remove(Dataset.create(workspace, f"{MARK} removed", "style").path),
    }
    # Numbers that stand nowhere else on the page, unlike 1, 2 and 3.
    jobs._table.write("INSERT INTO sqlite_sequence (name, seq) VALUES ('jobs', 73555000)")
    caption = jobs.submit(workspace.owner, "caption", {"dataset": dataset.id, "captioner": "x"})
    training = jobs.submit(workspace.owner, "train", {"run": run.id})
    running = jobs.submit(workspace.owner, "import", {"dataset": dataset.id})
    jobs.claim_one(running.id, os.getpid())
    image = dataset.images[0]
    handles = [
        Handle("dataset", dataset.id, other(dataset.id)),
        Handle("run", run.id, other(run.id)),
        Handle("LoRA of a run", f"run:{run.id}", f"run:{other(run.id)}"),
        Handle("saved step of a run", f"run:{run.id}@100", f"run:{other(run.id)}@100"),
        Handle("LoRA from a file", f"file:{adapter_id}", f"file:{other(adapter_id)}"),
        Handle("preset", preset, other(preset)),
        Handle("image", image_id, other(image_id)),
        *(Handle(kind, each, other(each)) for kind, each in removed.items()),
        Handle("waiting caption job", str(caption.id), "73555999"),
        Handle("waiting training job", str(training.id), "73555999"),
        Handle("running job", str(running.id), "73555999"),
        Handle("path of a file", str(image.file), str(image.file.with_name(other(image.file.name)))),
    ]
    addresses = [
        ("image", f"{image_id}"),
        ("init", init_id),
        *((kind, f"{dataset.id}/{image.id}") for kind in ("picture", "thumb")),
        ("mask", f"{dataset.id}/{image.mask.stem}"),
        ("dataset", dataset.id),
        ("published", f"{run.id}.zip"),
        ("sample", f"{run.id}/100/0"),
        ("adapter", f"{run.id}/100"),
    ]
    return handles, [Handle(kind, f"{kind}/{rest}", f"{kind}/{other(rest)}") for kind, rest in addresses]


@pytest.fixture(scope="module")
def house(tmp_path_factory) -> Iterator[House]:
    """No process is started: jobs of others fail at once, those of the owner stay as they are."""
    home = Home(tmp_path_factory.mktemp("owners"))
    app, studio = ui.build_app(home, Access(Mode.space, (HOST,), space_id="someone/studio"))
    handles, addresses = fill(home.workspace(OWNERS["owner"]), studio.jobs)

    def fail_others(*_, **__):
        for job in studio.jobs.list(states=UNFINISHED):
            if job.owner != OWNERS["owner"] and studio.jobs.claim_one(job.id, os.getpid()):
                studio.jobs.fail(job.id, "No process is started in this test.")
        return SimpleNamespace(pid=os.getpid())

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(worker, "ensure", fail_others)
        patch.setattr(platform, "spawn", fail_others)
        patch.setattr(secrets, "choice", random.choice)
        with asyncio.Runner() as loop:
            yield House(app, studio, handles, addresses, loop)


def handlers(house: House) -> dict[str, BlockFunction]:
    """Each once: the same function on the same inputs, bound to several events, is one handler."""
    found = {}
    for number, handler in house.app.fns.items():
        if handler.fn is not None and (handler.inputs or {"request", "event"} & set(inspect.signature(handler.fn).parameters)):
            plain = inspect.unwrap(handler.fn)
            key = (plain.__code__, tuple(each._id for each in handler.inputs))
            found.setdefault(key, (f"{number} {plain.__module__}.{plain.__qualname__}", handler))
    return dict(found.values())


def fillings(handler: BlockFunction, handle: str) -> Iterator[list]:
    """Inputs as they are at first, for the id in the event; the id in every input; the id in each of the first inputs alone."""
    first = [getattr(each, "value", None) for each in handler.inputs]
    if "event" in inspect.signature(handler.fn).parameters:
        yield first
    filled = [_filled(value, handle) for value in first]
    yield filled
    for at in range(min(len(first), MOST_INPUTS)):
        if filled[at] != first[at]:
            yield [*first[:at], filled[at], *first[at + 1 :]]


def _filled(value, handle: str):
    if isinstance(value, bool | int | float):
        return value
    if isinstance(value, list):
        return [each | {"ref": handle} for each in value] if value and isinstance(value[0], dict) else [handle]
    return handle


def test_another_visitor_cannot_tell_an_id_of_the_owner_from_one_that_does_not_exist(house):
    before, differ, shown = house.owned_state(), {}, {}
    for name, handler in handlers(house).items():
        for handle in house.handles:
            for real, missing in zip(fillings(handler, handle.real), fillings(handler, handle.missing)):
                answers = [house.call(handler, values, "other", each) for values, each in ((real, handle.real), (missing, handle.missing))]
                if answers[0] != answers[1]:
                    differ[name, handle.kind] = answers
                if MARK in answers[0]:
                    shown[name, handle.kind] = answers[0]
        assert house.owned_state() == before, f"{name} changed something of the owner for another visitor"
    assert not shown
    assert not differ


def test_without_a_visitor_nothing_is_shown_and_nothing_is_kept(house):
    house.forget_others(workspaces=True)
    before, shown = house.owned_state(), {}
    for name, handler in handlers(house).items():
        for handle in house.handles:
            for values in fillings(handler, handle.real):
                answer = house.call(handler, values, "no cookie", handle.real)
                if MARK in answer:
                    shown[name, handle.kind] = answer
        assert house.owned_state() == before, f"{name} changed something of the owner for a caller without a cookie"
        assert [folder.name for folder in (house.home.root / "owners").iterdir()] == [OWNERS["owner"]], f"{name} created a workspace without a cookie"
        assert not [job for job in house.jobs.list() if job.owner != OWNERS["owner"]], f"{name} started a job without a cookie"
    assert not shown


def test_the_url_of_a_file_of_the_owner_is_not_found_for_others(house):
    client = TestClient(gr.routes.App.create_app(house.app, app_kwargs=ui.launch_arguments(house.studio)["app_kwargs"]), base_url=f"https://{HOST}")
    for address in house.addresses:
        answers = {}
        for who in OWNERS:
            client.cookies = {COOKIE: COOKIES[who]} if who in COOKIES else {}
            for each in (address.real, address.missing):
                found = client.get(f"/{files.PREFIX.strip('/')}/{each}")
                answers[who, each] = found.status_code, found.text.replace(each.split("/")[1], "ID")
        assert answers["owner", address.real][0] == 200, address
        for who in ("other", "no cookie"):
            assert answers[who, address.real] == answers[who, address.missing], (who, address)
            assert answers[who, address.real][0] == 404, (who, address)


def test_every_id_opens_something_for_its_owner(house):
    """Otherwise the tests above would compare refusals with refusals. Runs last, because it changes the state of the owner."""
    closed = {handle.kind: handle for handle in house.handles if handle.kind != "path of a file"}  # Files come in as uploads, never by path.
    for handler in handlers(house).values():
        for handle in list(closed.values()):
            for real, missing in zip(fillings(handler, handle.real), fillings(handler, handle.missing)):
                before, after = (house.call(handler, missing, "owner", handle.missing, seconds=0.5) for _ in range(2))
                if before == after != house.call(handler, real, "owner", handle.real, seconds=0.5):
                    closed.pop(handle.kind, None)
                    break
    assert not closed, "no handler answers these otherwise than ids that nothing has"


def test_behind_a_password_every_handler_is_closed_to_who_has_not_logged_in(tmp_path):
    access = Access(Mode.password, (HOST,), password=SecretStr("correct horse"))
    app, studio = ui.build_app(Home(tmp_path), access)
    arguments = ui.launch_arguments(studio)
    app.auth, app.auth_message = arguments["auth"], None
    client = TestClient(gr.routes.App.create_app(app, app_kwargs=arguments["app_kwargs"]), base_url=f"https://{HOST}")
    for number, handler in app.fns.items():
        body = {"data": [None] * len(handler.inputs), "fn_index": number, "session_hash": "anonymous"}
        assert client.post("/gradio_api/queue/join", json=body).status_code == 401, number
        assert client.post(f"/gradio_api/run/{handler.api_name or number}", json=body).status_code == 401, number
    for kind in ("image/x", "dataset/x", "published/x.zip", "sample/x/1/0", "adapter/x/1"):
        assert client.get(f"/studio/file/{kind}").status_code == 401, kind
