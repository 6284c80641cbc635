"""Hashes of LoRA files: computed in bounded memory by jobs, kept beside the file, and never by a page."""

import hashlib
import os
import shutil
import subprocess
import sys
import time

import pytest

from studio.config.recipe import StackEntry
from studio.core import hashes
from studio.runs import library
from studio.ui.components import lora_list
from tests.trained import finished_run, write_large_adapter

MEGABYTES = 1000
"""Large enough that to read it takes many times as long as to look at it."""
MOST_MEGABYTES_MORE = 64
GROWTH = """
import resource, sys
from pathlib import Path
from studio.runs import library
from studio.core import hashes
from studio.core.workspace import Home, copy_atomically
workspace = Home(sys.argv[1]).workspace("local")
card = library.find(workspace, "file:large")
before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
print(eval(sys.argv[2]))
print((resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) // 1000)
"""


@pytest.fixture(scope="module")
def zeros(tmp_path_factory):
    path = tmp_path_factory.mktemp("zeros") / "large.safetensors"
    write_large_adapter(path, MEGABYTES)
    return path


@pytest.fixture
def large(workspace, zeros):
    """A LoRA of a gigabyte that an earlier version of the studio imported: nobody kept its hash."""
    os.link(zeros, workspace.adapter_path("large"))
    return workspace.adapter_path("large")


def row(ref: str, **changes) -> dict:
    return {"ref": ref, "weight": 1.0, "on": True, "fits": True, "title": "Large"} | changes


@pytest.mark.parametrize(
    "what", ["card.sha256", "library.find_by_hash(workspace, card.ref, 'x')", "copy_atomically(card.path, Path(sys.argv[1]) / 'copy')"]
)
def test_a_large_file_is_read_in_pieces(home, large, what):
    done = subprocess.run([sys.executable, "-c", GROWTH, str(home.root), what], capture_output=True, text=True, check=True)
    said, megabytes_more = done.stdout.split()
    assert int(megabytes_more) < MOST_MEGABYTES_MORE, said


def test_no_page_reads_a_large_file_to_name_it(workspace, large):
    began = time.monotonic()
    assert library.stack_entry(workspace, "file:large", 1.0).sha256 is None
    assert lora_list.stack(workspace, [row("file:large")])[0].sha256 is None
    rows, missing, changed = lora_list.rows_of(workspace, [StackEntry(adapter="file:large", sha256="0" * 64)])
    assert time.monotonic() - began < 0.2
    assert len(rows) == 1 and missing == changed == []
    assert lora_list.stack(workspace, rows)[0].sha256 == "0" * 64, "whoever draws compares it"


def test_a_hash_is_kept_beside_its_file_until_that_changes(workspace, large):
    card = library.find(workspace, "file:large")
    digest = card.sha256
    began = time.monotonic()
    assert digest == card.sha256 == card.known_sha256 == library.stack_entry(workspace, card.ref, 1.0).sha256
    assert time.monotonic() - began < 0.2
    mine = workspace.adapter_path("mine")
    shutil.copyfile(large, mine)
    shutil.copyfile(hashes.beside(large), hashes.beside(mine))
    assert hashes.known(mine) is None, "a hash counts for its own file alone"


@pytest.mark.parametrize("kept", [b"", b"{", b"[]", b'{"sha256": "0"}', b'{"sha256": "0", "mark": [1, 2]}'])
def test_a_kept_hash_that_is_damaged_is_computed_again(tmp_path, kept, monkeypatch):
    monkeypatch.setattr(hashes, "SMALL_BYTES", 0)
    path = tmp_path / "a.safetensors"
    path.write_bytes(b"one")
    hashes.beside(path).write_bytes(kept)
    assert hashes.sha256(path) == hashlib.sha256(b"one").hexdigest() == hashes.known(path)
    path.write_bytes(b"two")
    assert hashes.sha256(path) == hashlib.sha256(b"two").hexdigest()


def test_a_recipe_that_a_large_save_may_have_drawn_is_left_to_whoever_draws(workspace, zeros):
    run = finished_run(workspace)
    shutil.copyfile(zeros, run.adapter_at(100))
    recorded = hashlib.sha256(run.adapter_at(200).read_bytes()).hexdigest()
    rows, _, changed = lora_list.rows_of(workspace, [StackEntry(adapter=f"run:{run.id}", sha256=recorded)])
    assert "sha256" not in rows[0] and not changed
    rows, _, changed = lora_list.rows_of(workspace, [StackEntry(adapter=f"run:{run.id}", sha256="0" * 64)])
    assert rows[0]["sha256"] == "0" * 64 and not changed
    library.find(workspace, f"run:{run.id}@100").sha256  # noqa: B018 - it is kept from now on
    rows, _, changed = lora_list.rows_of(workspace, [StackEntry(adapter=f"run:{run.id}", sha256="0" * 64)])
    assert "sha256" not in rows[0] and changed == ["Ink"]
