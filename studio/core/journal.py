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

    Other lines are skipped: a power loss during a write leaves an incomplete one. If that write was the first, the incomplete line is all there
    is, and the file has no changes: a line that begins like a change, is not whole and has no newline. Garbage that happens to look like that is
    taken for it, and nothing in it could be read anyway; any other file without a change is damaged.
    """
    try:
        data = path.read_bytes()
    except FileNotFoundError:
        return []
    except OSError as error:
        raise Damaged(path, f"cannot be read ({error.strerror})") from None
    lines = [line for line in data.splitlines() if line.strip()]
    changes = [change for change in map(_parse, lines) if isinstance(change, dict) and not problem_of(change, shape)]
    if skipped := len(lines) - len(changes):
        # Without the folder: its name comes from a title.
        log.warning("%s: %d of %d lines cannot be read and were skipped", path.name, skipped, len(lines))
    if lines and not changes and not (len(lines) == 1 and _is_cut(data)):
        raise Damaged(path, f"has {'a line' if len(lines) == 1 else f'{len(lines)} lines'}, and none of them can be read")
    return changes


def _is_cut(data: bytes) -> bool:
    """Whether the only line of a file is the beginning of one."""
    return data.strip().startswith(b"{") and not data.endswith((b"\n", b"\r")) and _parse(data) is None


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
