"""A full disk is waited out: a run keeps what it knows in memory until there is room again, and loses no step."""

import contextlib
import errno
import json
import os
import shutil
import time
from collections.abc import Callable
from pathlib import Path

from studio.runs.run import Run
from studio.training.checkpoints import Disk

FULL = (errno.ENOSPC, errno.EDQUOT)
SECONDS_BETWEEN_TRIES = 1.0
SPARE_BYTES = 1_000_000


class PatientRun(Run):
    """A run whose own notes wait for room too."""

    def append(self, event: dict) -> None:
        with_patience(self, len(json.dumps(event)), lambda: super(PatientRun, self).append(event))


class PatientDisk(Disk):
    def __init__(self, run: Run):
        self.run = run

    def write(self, path: Path, data: bytes) -> None:
        with_patience(self.run, len(data), lambda: super(PatientDisk, self).write(path, data))


def with_patience(run: Run, size: int, write: Callable[[], None]) -> None:
    """Write, or wait until the disk has room and write then. A wish to stop ends the waiting with the disk's own error."""
    told = False
    while True:
        try:
            before = run.events_file.stat().st_size if run.events_file.exists() else 0
            write()
            if told:
                Run.append(run, {"kind": "resumed"})
            return
        except OSError as error:
            if error.errno not in FULL or run.stop_requested:
                raise
        # Half a line of an event, which the disk still took, must not stay before the whole one.
        with contextlib.suppress(OSError):
            if run.events_file.exists():
                os.truncate(run.events_file, before)
        while (free := shutil.disk_usage(run.path).free) < size + SPARE_BYTES and not run.stop_requested:
            if not told:
                told = _told(run, size, free)
            time.sleep(SECONDS_BETWEEN_TRIES)
        time.sleep(SECONDS_BETWEEN_TRIES)


def _told(run: Run, size: int, free: int) -> bool:
    """Whether the run could still say why it waits."""
    try:
        Run.append(run, {"kind": "full", "needed": size, "free": free})
    except OSError:
        return False
    return True
