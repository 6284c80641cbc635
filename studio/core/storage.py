"""Replacing and deleting files that another program may have open. Windows refuses both until it closes them, so there they are tried again."""

import contextlib
import errno
import logging
import os
import shutil
import sqlite3
import time
from collections.abc import Callable, Iterator
from pathlib import Path

from studio.core import platform
from studio.core.errors import StudioError

log = logging.getLogger(__name__)

FULL = (errno.ENOSPC, errno.EDQUOT)
"""Errors of a full disk and of a user's full share of it."""
FIRST_PAUSE_SECONDS = 0.01
LONGEST_WAIT_SECONDS = 1.0


class FileInUse(StudioError, PermissionError):
    """Windows did not allow a file or folder to be replaced or deleted. An OSError too, for code that handles the errors of a disk."""


class DiskFull(StudioError, OSError):
    """The disk or the quota is full. An OSError too, for code that waits for space."""

    def __init__(self, name: str):
        super().__init__(f"The disk is full: {name} could not be saved. Free some space and try again; what was saved before is kept.")
        self.errno = errno.ENOSPC


def is_full(error: BaseException) -> bool:
    """Whether this is the error of a full disk, of the system or of SQLite."""
    if isinstance(error, sqlite3.OperationalError):
        return getattr(error, "sqlite_errorcode", None) == sqlite3.SQLITE_FULL or "disk is full" in str(error)
    return isinstance(error, OSError) and error.errno in FULL


@contextlib.contextmanager
def saving(name: str, *unfinished: Path) -> Iterator[None]:
    """DiskFull about `name` if the disk fills up in the block. After any error the `unfinished` files and folders are deleted, since they take
    the space that is missing."""
    try:
        yield
    except BaseException as error:
        for path in unfinished:
            with contextlib.suppress(OSError):
                discard(path)
        if is_full(error) and not isinstance(error, DiskFull):
            raise DiskFull(name) from error
        raise


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
