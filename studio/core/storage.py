"""Replacing and deleting files that another program may have open. Windows refuses both until it closes them, so there they are tried again."""

import errno
import logging
import os
import shutil
import time
from collections.abc import Callable
from pathlib import Path

from studio.core import platform
from studio.core.errors import StudioError

log = logging.getLogger(__name__)

FIRST_PAUSE_SECONDS = 0.01
LONGEST_WAIT_SECONDS = 1.0


class FileInUse(StudioError, PermissionError):
    """Windows did not allow a file or folder to be replaced or deleted. An OSError too, for code that handles the errors of a disk."""


def replace_file(source: Path, target: Path) -> None:
    """Rename a file or folder, atomically replacing a file `target`. FileInUse if another program keeps one of them open on Windows."""
    _retry_while_open(lambda: os.replace(source, target), target, "replaced")  # noqa: TID251 - the one place


def remove_file(path: Path) -> None:
    """Delete a file if it exists. FileInUse if another program keeps it open on Windows."""
    _retry_while_open(lambda: path.unlink(missing_ok=True), path, "deleted")


def remove_folder(path: Path) -> None:
    """Delete a folder with its files. FileInUse if another program keeps one of them open on Windows."""
    _retry_while_open(lambda: shutil.rmtree(path), path, "deleted")


def discard(path: Path) -> None:
    """Delete a file or folder that is no longer needed. One that another program keeps open on Windows stays, with a warning in the log."""
    try:
        if path.is_dir():
            remove_folder(path)
        else:
            remove_file(path)
    except FileInUse:
        log.warning("%s is open in another program and was not deleted", path.name)


def move(source: Path, target: Path) -> None:
    """Move a file or folder, also to another disk, where it is copied. FileInUse if another program keeps it open on Windows."""
    try:
        replace_file(source, target)
    except OSError as error:
        if error.errno != errno.EXDEV:
            raise
        shutil.move(source, target)


def _retry_while_open(action: Callable[[], object], path: Path, done: str) -> None:
    deadline, pause = time.monotonic() + LONGEST_WAIT_SECONDS, FIRST_PAUSE_SECONDS
    while True:
        try:
            action()
            return
        except OSError as error:
            # ENOTEMPTY: a folder with a deleted file that a reader still has open.
            if not platform.WINDOWS or not (isinstance(error, PermissionError) or error.errno == errno.ENOTEMPTY):
                raise
            left = deadline - time.monotonic()
            if left <= 0:
                raise FileInUse(
                    f"{path} cannot be {done} ({error.strerror}): another program has it open, or it is write-protected. Close programs that "
                    f"show, synchronise or scan the folder {path.parent}, then try again."
                ) from error
        time.sleep(min(pause, left))
        pause *= 2
