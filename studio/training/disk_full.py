"""Writes that wait while the disk is full: the run keeps its state in memory until there is space again, and loses no step."""

import contextlib
import json
import os
import shutil
import time
from collections.abc import Callable
from pathlib import Path

from studio.core import storage
from studio.runs.run import Run
from studio.training.checkpoints import Disk

SECONDS_BETWEEN_RETRIES = 1.0
SPARE_BYTES = 1_000_000


class WaitingRun(Run):
    """Run whose events wait for disk space."""

    def append(self, event: dict) -> None:
        retry_while_full(self, len(json.dumps(event)), lambda: super(WaitingRun, self).append(event))


class WaitingDisk(Disk):
    """Disk whose writes wait for space."""

    def __init__(self, run: Run):
        self.run = run

    def write(self, path: Path, data: bytes) -> None:
        retry_while_full(self.run, len(data), lambda: super(WaitingDisk, self).write(path, data))


def retry_while_full(run: Run, size: int, write: Callable[[], None]) -> None:
    """Call `write`, and again once the disk has space for `size` bytes. Other errors, and a full disk after a stop request, are raised (OSError).

    While it waits, the run's last event is "full"; "resumed" follows.
    """
    reported = False
    while True:
        try:
            before = run.events_file.stat().st_size if run.events_file.exists() else 0
            write()
            if reported:
                Run.append(run, {"kind": "resumed"})
            return
        except OSError as error:
            if error.errno not in storage.FULL or run.stop_requested:
                raise
        # Removes the part of an event that still fitted on the disk.
        with contextlib.suppress(OSError):
            if run.events_file.exists():
                os.truncate(run.events_file, before)
        while (free := shutil.disk_usage(run.path).free) < size + SPARE_BYTES and not run.stop_requested:
            if not reported:
                reported = _report(run, size, free)
            time.sleep(SECONDS_BETWEEN_RETRIES)
        time.sleep(SECONDS_BETWEEN_RETRIES)


def _report(run: Run, size: int, free: int) -> bool:
    """Append the "full" event (sizes in bytes); False if the disk has no space even for that."""
    try:
        Run.append(run, {"kind": "full", "needed": size, "free": free})
    except OSError:
        return False
    return True
