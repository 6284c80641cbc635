"""What a killed import left is deleted at the next start; what is being written, and everything whole, stays."""

import os
import signal
import subprocess
import sys
import time

from studio.core import platform
from studio.datasets.dataset import Dataset
from studio.jobs import leftovers, worker

DEAD = 2**22 + 1
"""Above the largest process number of Linux."""

IMPORT = """
import sys, time
from pathlib import Path
from studio.datasets.dataset import Dataset
with Dataset(Path(sys.argv[1])).incoming() as folder:
    (folder / "half.png.part").write_bytes(b"x" * 1000)
    print(1, flush=True)
    time.sleep(60)
"""


def test_the_leftovers_of_a_killed_import_are_deleted_at_the_start(home, workspace, monkeypatch):
    dataset = Dataset.create(workspace, "Ink")
    child = subprocess.Popen([sys.executable, "-c", IMPORT, str(dataset.path)], cwd=platform.REPOSITORY, stdout=subprocess.PIPE)
    child.stdout.readline()
    assert leftovers.sweep(home) == 0 and list(dataset.path.glob("incoming-*")), "it is being imported"
    child.send_signal(signal.SIGKILL)
    child.wait()
    monkeypatch.setattr(worker, "supervise", lambda *_: None)
    monkeypatch.setattr(worker, "ensure", lambda home: None)
    worker.start_supervisor(home)
    ends = time.monotonic() + 20
    while list(dataset.path.glob("incoming-*")) and time.monotonic() < ends:
        time.sleep(0.05)
    assert not list(dataset.path.glob("incoming-*")) and Dataset.open(workspace, dataset.id).title == "Ink"


def test_unfinished_files_are_deleted_unless_their_process_runs(home, workspace):
    folder = Dataset.create(workspace, "Ink").path
    gone = [folder / f".dataset.json.{DEAD}-0123abcd", workspace.adapters / f".a.json.{DEAD}-0123abcd"]
    old = [folder / f".pictures.json.{os.getpid()}-0123abcd", workspace.adapters / "a.part", workspace.published / ".ink.zip.part"]
    kept = [
        folder / f".captions.jsonl.{os.getpid()}-89abcdef",
        workspace.adapters / "b.part",
        folder / ".keep",
        folder / "pictures" / "incoming-1-1.png",
    ]
    for path in (*gone, *old, *kept):
        path.write_bytes(b"half")
    for path in old:
        os.utime(path, (time.time() - 100_000,) * 2)
    whole = {path for path in home.root.rglob("*") if path not in (*gone, *old)}
    assert leftovers.sweep(home) == len(gone) + len(old)
    assert set(home.root.rglob("*")) == whole
