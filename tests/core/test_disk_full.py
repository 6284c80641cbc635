"""A full disk is named as such wherever the studio writes, what was saved before is kept, and no unfinished file takes space."""

import asyncio
import errno
import json
import os
import sqlite3
import zipfile
from pathlib import Path
from types import SimpleNamespace

import pytest
from PIL import Image

from studio.config import TrainConfig
from studio.core import journal, storage
from studio.core.errors import error_message
from studio.core.storage import DiskFull
from studio.core.workspace import copy_atomically, write_atomically
from studio.datasets.dataset import Dataset
from studio.datasets.importing import decoder
from studio.jobs.imports import store_adapter
from studio.jobs.queue import Jobs
from studio.runs import starting_points
from studio.ui.gate import Gate
from studio.ui.page import Page
from tests.trained import captioned_dataset, png, write_tiny_adapter

FULL = r"^The disk is full: .+ could not be saved\. Free some space and try again; what was saved before is kept\.$"


@pytest.fixture
def full(monkeypatch):
    """Call it, and the disk is full: file systems report that at the latest when a file is synchronised."""

    def fill(number: int = errno.ENOSPC) -> None:
        def no_space(*_, **__):
            raise OSError(number, os.strerror(number))

        monkeypatch.setattr(os, "fsync", no_space)
        monkeypatch.setattr(zipfile.ZipFile, "writestr", no_space)
        monkeypatch.setattr("shutil.copyfile", lambda source, target: (Path(target).write_bytes(b"half"), no_space()))
        monkeypatch.setattr(Path, "write_bytes", no_space)

    return fill


def everything(folder: Path) -> dict[Path, bytes]:
    return {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()}


WRITES = {
    "a caption": lambda workspace, dataset, source: dataset.set_caption(dataset.images[0].id, "another", "hand"),
    "an undo": lambda workspace, dataset, source: dataset.undo_caption(dataset.images[0].id),
    "a trigger word": lambda workspace, dataset, source: dataset.set_trigger_word("ohwx"),
    "a dataset of samples": lambda workspace, dataset, source: write_atomically(dataset.path / "pictures.json", b"[]"),
    "a preset": lambda workspace, dataset, source: starting_points.save(workspace, "Mine", TrainConfig()),
    "an imported LoRA": lambda workspace, dataset, source: store_adapter(workspace, source, "Mine", {}),
    "a copy": lambda workspace, dataset, source: copy_atomically(source, workspace.adapters / "a.safetensors"),
    "an export": lambda workspace, dataset, source: dataset.export(workspace.published / "a.zip"),
    "a removal": lambda workspace, dataset, source: workspace.remove(dataset.path),
}


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EDQUOT])
@pytest.mark.parametrize("what", WRITES)
def test_a_full_disk_says_so_and_leaves_everything_as_it_was(workspace, tmp_path, full, what, number):
    dataset = captioned_dataset(workspace, "style", "")
    source = tmp_path / "source.safetensors"
    write_tiny_adapter(source, {})
    before = everything(workspace.root)
    full(number)
    with pytest.raises(DiskFull, match=FULL):
        WRITES[what](workspace, dataset, source)
    assert {path: data for path, data in everything(workspace.root).items() if path.name != "lock"} == {
        path: data for path, data in before.items() if path.name != "lock"
    }


def test_half_a_change_does_not_stay_in_a_journal(tmp_path, monkeypatch):
    path = tmp_path / "captions.jsonl"
    journal.append(path, {"id": "a"})
    before = path.read_bytes()
    monkeypatch.setattr(os, "fsync", lambda _: (_ for _ in ()).throw(OSError(errno.ENOSPC, "full")))
    with pytest.raises(DiskFull):
        journal.append(path, {"id": "b"})
    assert path.read_bytes() == before


def test_an_import_on_a_full_disk_does_not_ask_for_the_file_again(tmp_path, full, capsys, monkeypatch):
    path = tmp_path / "a.png"
    path.write_bytes(png(7, size=64))
    (tmp_path / "out").mkdir()
    full()
    # In a child of its own the decoder limits itself for good; here it would end the tests after 30 seconds.
    monkeypatch.setattr(decoder.platform, "limit_cpu", lambda _: None)
    decoder.handle({"path": str(path), "name": "a.png", "skip": 0, "mask": False}, tmp_path / "out")
    (message,) = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert (message["kind"], message["reason"]) == ("refused", "the disk is full, so it could not be saved; free some space and import it again.")
    assert not [path for path in (tmp_path / "out").iterdir() if path.suffix == ".part"]


def test_a_jpeg_on_a_full_disk_is_no_encoder_error():
    if not Path("/dev/full").exists():
        pytest.skip("/dev/full")
    with pytest.raises(OSError, match="No space left") as caught:
        Path("/dev/full").write_bytes(b"x" * 100_000)
    assert storage.is_full(caught.value)
    with pytest.raises(OSError) as caught:
        Image.new("RGB", (512, 512)).save("/dev/full", format="JPEG")
    assert "encoder error" in str(caught.value) or storage.is_full(caught.value)


def test_a_full_database_is_a_full_disk(tmp_path):
    jobs = Jobs(tmp_path / "studio.db")
    jobs._table._connection.execute("PRAGMA max_page_count = 1")
    with pytest.raises(DiskFull, match="The disk is full: the list of jobs could not be saved"):
        jobs.submit_all("local", "generate", [({"prompt": "a cat " * 1000}, None)] * 50)
    assert not jobs.list()


def test_a_job_on_a_full_disk_says_so(tmp_path):
    for error in (OSError(errno.EDQUOT, "quota"), OSError(errno.ENOSPC, "full"), DiskFull("the zip")):
        assert error_message(error, tmp_path / "log").startswith("The disk is full")


def test_an_upload_to_a_full_disk_says_so():
    async def upload(scope, receive, send):
        raise OSError(errno.ENOSPC, "No space left on device", "/home/ada/studio/upload")

    sent = []

    async def send(message):
        sent.append(message)

    async def receive():
        return {"type": "http.request", "body": b"x"}

    headers = [(b"host", b"127.0.0.1:7860")]
    scope = {"type": "http", "method": "POST", "path": "/gradio_api/upload", "headers": headers, "server": ("127.0.0.1", 7860), "app": None}
    asyncio.run(Gate(upload)(scope, receive, send))
    assert sent[0]["status"] == 507 and b"The disk of the studio is full." in sent[1]["body"] and b"ada" not in sent[1]["body"]


@pytest.mark.parametrize("error", [DiskFull("the preset"), OSError(errno.ENOSPC, "full"), sqlite3.OperationalError("database or disk is full")])
def test_a_handler_on_a_full_disk_shows_that(error, monkeypatch):
    async def fail(*_, **__):
        raise error

    monkeypatch.setattr("gradio.Blocks.process_api", fail)
    with pytest.raises(Exception, match="The disk is full") as caught:
        asyncio.run(Page().process_api(SimpleNamespace(api_name="save", trigger_mode="once")))
    assert caught.value.visible


def test_samples_on_a_full_disk_are_no_bug(workspace, monkeypatch):
    def no_space(*_, **__):
        raise OSError(errno.ENOSPC, "full")

    monkeypatch.setattr(Path, "mkdir", no_space)
    with pytest.raises(OSError) as caught:
        Dataset.from_samples(workspace, "style")
    assert storage.is_full(caught.value)
