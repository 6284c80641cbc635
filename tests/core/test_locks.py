"""A lock names its holder, and is free again when that process dies."""

import subprocess
import sys

import pytest

from studio.core import platform
from studio.core.errors import StudioError
from studio.core.locks import FileLock

HOLD = (
    "import sys, time; from pathlib import Path; from studio.core.locks import FileLock\n"
    "with FileLock(Path(sys.argv[1]), 'The run'):\n print('held', flush=True); time.sleep(60)"
)


def holder(path):
    child = subprocess.Popen([sys.executable, "-c", HOLD, str(path)], stdout=subprocess.PIPE, env=platform.environment())
    assert child.stdout.readline() == b"held\n"
    return child


def test_who_holds_a_lock_is_known_without_taking_it(tmp_path):
    lock = FileLock(tmp_path / "lock", "The run")
    assert lock.holder() is None and not (tmp_path / "lock").exists()
    child = holder(tmp_path / "lock")
    assert lock.holder() == child.pid
    child.kill()
    child.wait()
    assert lock.holder() is None
    with lock:
        pass
    assert FileLock(tmp_path / "lock", "The run").holder() is None, "its process lives, and let it go"


def test_the_second_taker_of_a_lock_is_told_who_has_it(tmp_path):
    child = holder(tmp_path / "lock")
    with (
        pytest.raises(StudioError, match=rf"The run 'ink' is in use by process {child.pid}, since \d{{4}}-"),
        FileLock(tmp_path / "lock", "The run 'ink'"),
    ):
        pass
    child.kill()
    child.wait()


def test_a_killed_holder_gives_its_lock_back(tmp_path):
    child = holder(tmp_path / "lock")
    child.kill()
    child.wait()
    lock = FileLock(tmp_path / "lock", "The run")
    assert lock.acquire()
    lock.release()
