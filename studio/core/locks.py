"""File locks that the operating system releases when their holder ends, on Linux, macOS and Windows."""

import contextlib
import errno
import os
import sys
import time
from pathlib import Path
from typing import BinaryIO

from studio.core import platform
from studio.core.errors import StudioError
from studio.core.workspace import CHOOSE_ANOTHER_HOME

if sys.platform == "win32":
    import msvcrt
else:
    import fcntl


HELD = (BlockingIOError, PermissionError)
"""Errors of a lock that another process holds: EWOULDBLOCK; EACCES on Windows and on some network drives."""


class FileLock:
    """A file lock that the operating system releases when its holder ends, even by a crash. Use it in a `with` block.

    `with FileLock(path, "The run 'ink'"):` raises a StudioError that names the holder if it is locked; `wait=True` waits instead. A StudioError
    about the folder follows where the file system has no locks or another user owns the file.
    """

    def __init__(self, path: Path, title: str, wait: bool = False):
        self.path = path
        self.title = title
        self.wait = wait
        self.file: BinaryIO | None = None

    def acquire(self) -> bool:
        """Try once (or wait); True if acquired."""
        try:
            file = open(self.path, "a+b")  # noqa: SIM115 - held until release
        except OSError as error:
            if not isinstance(error, PermissionError) and error.errno != errno.EROFS:
                raise
            raise StudioError(f"The file {self.path} cannot be opened for writing: {error.strerror}. {CHOOSE_ANOTHER_HOME}") from error
        try:
            _lock(file, self.wait)
        except HELD:
            file.close()
            return False
        except OSError as error:
            # ENOLCK, EOPNOTSUPP, EIO: network drives without a working lock service.
            file.close()
            raise StudioError(
                f"The file {self.path} cannot be locked: {error.strerror}. Locks often do not work on network drives. {CHOOSE_ANOTHER_HOME}"
            ) from error
        file.truncate(0)
        file.write(f"{os.getpid()} {time.strftime('%Y-%m-%d %H:%M:%S')}".encode())
        file.flush()
        self.file = file
        return True

    def holder(self) -> int | None:
        """The pid of the process that holds the lock; None if it is free."""
        try:
            pid = self.path.read_text(errors="replace").partition(" ")[0]
        except OSError:
            # No such file, or Windows, where a locked file cannot be read.
            return None
        # Tried only if that process is running: a try holds the lock for an instant, in which others would not get it.
        if not pid.isdigit() or not platform.alive(int(pid)) or self.acquire():
            self.release()
            return None
        return int(pid)

    def release(self) -> None:
        if self.file is not None:
            _unlock(self.file)
            self.file.close()
            self.file = None

    def __enter__(self) -> "FileLock":
        if not self.acquire():
            try:
                pid, _, since = self.path.read_text(errors="replace").partition(" ")
                holder = f"process {pid or 'unknown'}, since {since or 'a moment ago'}"
            except OSError:
                holder = "another process"
            raise StudioError(f"{self.title} is in use by {holder}; wait for it to end, or stop it there.")
        return self

    def __exit__(self, *exception) -> None:
        self.release()


class OpenMark:
    """Marks a file as open in this process while the mark exists, so that another process does not move it away.

    On Windows nothing is needed: a file that a process has open cannot be moved.
    """

    def __init__(self, path: Path):
        self.path = path
        self.file: BinaryIO | None = None
        if sys.platform != "win32":
            # The name of the lock file, not the marked one: SQLite has locks of its own on that.
            self.file = open(path, "a+b")  # noqa: SIM115 - held until close
            with contextlib.suppress(OSError):
                fcntl.flock(self.file, fcntl.LOCK_SH)

    def only_here(self) -> bool:
        """Whether no other mark exists on this computer. Keeps others from being made until `close`."""
        if sys.platform == "win32" or self.file is None:
            return True
        try:
            fcntl.flock(self.file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            return False
        return True

    def close(self) -> None:
        if self.file is not None:
            self.file.close()
            self.file = None


if sys.platform == "win32":
    # msvcrt locks a byte range at the file position; a byte far after the text keeps the text readable.
    LOCKED_BYTE = 1 << 30

    def _lock(file: BinaryIO, wait: bool) -> None:
        while True:
            try:
                file.seek(LOCKED_BYTE)
                return msvcrt.locking(file.fileno(), msvcrt.LK_NBLCK, 1)
            except HELD:
                if not wait:
                    raise
                time.sleep(0.01)

    def _unlock(file: BinaryIO) -> None:
        file.seek(LOCKED_BYTE)
        msvcrt.locking(file.fileno(), msvcrt.LK_UNLCK, 1)

else:

    def _lock(file: BinaryIO, wait: bool) -> None:
        fcntl.flock(file, fcntl.LOCK_EX if wait else fcntl.LOCK_EX | fcntl.LOCK_NB)

    def _unlock(file: BinaryIO) -> None:
        fcntl.flock(file, fcntl.LOCK_UN)
