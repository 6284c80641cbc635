"""Append-only journal: one JSON change per line, so that changes can be undone and a power loss costs at most one line.

The owner of the file does the locking.
"""

import errno
import json
import logging
import os
from pathlib import Path

from studio.core import storage
from studio.core.damage import Damaged, Shape, problem_of

log = logging.getLogger(__name__)


def read(path: Path, shape: Shape) -> list[dict]:
    """All changes of this shape, oldest first; none if there is no file. Damaged if it has lines, but not one change.

    Other lines are skipped: a power loss during a write leaves an incomplete one.
    """
    try:
        lines = [line for line in path.read_bytes().splitlines() if line.strip()]
    except FileNotFoundError:
        return []
    except OSError as error:
        raise Damaged(path, f"cannot be read ({error.strerror})") from None
    changes = [change for change in map(_parse, lines) if isinstance(change, dict) and not problem_of(change, shape)]
    if skipped := len(lines) - len(changes):
        # Without the folder: its name comes from a title.
        log.warning("%s: %d of %d lines cannot be read and were skipped", path.name, skipped, len(lines))
    if lines and not changes:
        raise Damaged(path, f"has {'a line' if len(lines) == 1 else f'{len(lines)} lines'}, and none of them can be read")
    return changes


def _parse(line: bytes) -> object:
    try:
        return json.loads(line)
    except (ValueError, RecursionError):
        return None


def append(path: Path, change: dict) -> None:
    """Append one change. On a full disk nothing of it stays in the file, and DiskFull is raised."""
    with storage.saving(path.name), open(path, "a+b", buffering=0) as file:
        end = file.seek(0, os.SEEK_END)
        try:
            # An incomplete line must not merge with the next one.
            newline = b"\n" if end and (file.seek(-1, os.SEEK_END), file.read(1))[1] != b"\n" else b""
            line = newline + json.dumps(change).encode() + b"\n"
            if file.write(line) != len(line):
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), path.name)
            os.fsync(file.fileno())
        except OSError:
            file.truncate(end)
            raise
