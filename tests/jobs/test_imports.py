"""What people bring arrives through jobs of their own: pictures, LoRA files, LoRAs from the Hub."""

import hashlib
import json
import time

import pytest

from studio.core import hashes
from studio.datasets.dataset import Dataset
from studio.jobs import imports
from studio.jobs.progress import ProgressReporter
from studio.jobs.queue import Jobs
from studio.runs import library
from tests.trained import png, write_large_adapter, write_tiny_adapter


@pytest.fixture
def jobs(home):
    return Jobs(home.database)


def done(jobs, kind, payload, secret=None):
    job = jobs.start(jobs.submit("local", kind, payload), secret)
    deadline = time.monotonic() + 120
    while jobs.get(job.id).unfinished:
        assert time.monotonic() < deadline
        time.sleep(0.02)
    return jobs.get(job.id)


def test_pictures_are_imported_by_a_process_of_their_own(jobs, workspace, tmp_path):
    dataset = Dataset.create(workspace, "Brought")
    (tmp_path / "good.png").write_bytes(png(90, size=64))
    (tmp_path / "good.txt").write_text("a grey card")
    (tmp_path / "bad.png").write_bytes(b"nothing")
    files = [{"path": str(tmp_path / name), "name": name} for name in ("good.png", "good.txt", "bad.png")]
    job = done(jobs, "import", {"dataset": dataset.id, "files": files})
    assert job.state == "done", job.error
    assert (job.result["added"], job.result["captions"], [r["name"] for r in job.result["refused"]]) == (1, 1, ["bad.png"])
    assert dataset.images[0].caption == "a grey card"
    assert not list(dataset.path.glob("incoming-*"))


def test_a_lora_file_is_kept_under_its_name_and_a_pickle_is_not(jobs, workspace, tmp_path):
    write_tiny_adapter(tmp_path / "Ink Dreams.safetensors", {"trigger_word": "ohwx"})
    (tmp_path / "evil.safetensors").write_bytes(b"\x80\x04\x95evil pickle")
    files = [{"path": str(tmp_path / name), "name": name} for name in ("Ink Dreams.safetensors", "evil.safetensors")]
    job = done(jobs, "adapter", {"files": files})
    card = library.find(workspace, job.result["adapters"][0])
    assert (card.title, card.source, card.trigger_words, card.rank) == ("Ink Dreams", "file", ["ohwx"], 4)
    assert len(job.result["adapters"]) == 1 and "pickle" in job.result["refused"][0]["reason"]


def test_the_job_that_brings_a_large_lora_hashes_it_so_that_no_page_need(jobs, workspace, tmp_path):
    write_large_adapter(tmp_path / "large.safetensors", 20)
    job = done(jobs, "adapter", {"files": [{"path": str(tmp_path / "large.safetensors"), "name": "large.safetensors"}]})
    card = library.find(workspace, job.result["adapters"][0])
    assert hashes.beside(card.path).exists() and card.known_sha256 == hashlib.sha256(card.path.read_bytes()).hexdigest()


def test_one_bad_lora_does_not_cost_the_others(home, workspace, tmp_path, monkeypatch):
    real = imports.fingerprint

    def stumbles(header):
        if "stumble" in header.metadata["studio"]:
            raise IndexError("a shape nobody thought of")
        return real(header)

    monkeypatch.setattr(imports, "fingerprint", stumbles)
    for name, facts in (("odd", {"stumble": 1}), ("good", {})):
        write_tiny_adapter(tmp_path / f"{name}.safetensors", facts)
    files = [{"path": str(tmp_path / f"{name}.safetensors"), "name": f"{name}.safetensors"} for name in ("gone", "odd", "good")]
    jobs = Jobs(home.database)
    job = jobs.submit("local", "adapter", {"files": files})
    result = imports.import_adapters(home, job, ProgressReporter(jobs, job.id), None)
    assert [refusal["name"] for refusal in result["refused"]] == ["gone.safetensors", "odd.safetensors"]
    assert [library.find(workspace, ref).title for ref in result["adapters"]] == ["good"]
    assert not list(workspace.adapters.glob("*.part"))


def test_a_lora_from_the_hub_remembers_its_exact_commit(jobs, workspace, tmp_path, fake_hub):
    write_tiny_adapter(tmp_path / "lora.safetensors", {})
    files = {"lora.safetensors": (tmp_path / "lora.safetensors").read_bytes(), "README.md": b"---\ninstance_prompt: zorvex\n---\n"}
    commit = fake_hub.seed_files("maker/zorvex-style", files)
    job = done(jobs, "download", {"repo_id": "maker/zorvex-style", "revision": None, "filename": None})
    assert job.state == "done", job.error
    card = library.find(workspace, job.result["adapters"][0])
    assert job.result["revision"] == commit and card.origin["revision"] == commit
    assert (card.source, card.title, card.trigger_words) == ("hub", "zorvex-style", ["zorvex"])
    assert card.path.read_bytes() == files["lora.safetensors"]


def test_a_lora_that_is_not_there_is_a_sentence(jobs, fake_hub):
    job = done(jobs, "download", {"repo_id": "maker/nothing", "revision": None, "filename": None}, secret=fake_hub.token.encode())
    assert job.state == "failed" and "maker/nothing is not on the Hub" in job.error
    for file in jobs.database.parent.rglob("*"):
        assert file.is_dir() or fake_hub.token.encode() not in file.read_bytes()


def test_the_about_file_is_plain_json(jobs, workspace, tmp_path):
    write_tiny_adapter(tmp_path / "a.safetensors", {})
    job = done(jobs, "adapter", {"files": [{"path": str(tmp_path / "a.safetensors"), "name": "a\u202e<b>.safetensors"}]})
    path = workspace.adapter_path(job.result["adapters"][0].removeprefix("file:"))
    assert json.loads(path.with_suffix(".json").read_text())["title"] == "a<b>"
