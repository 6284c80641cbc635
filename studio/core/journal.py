"""Append-only journal: one JSON change per line, so that changes can be undone and a power loss costs at most one line.

The owner of the file does the locking.
"""

import json
import os
from collections.abc import Iterator
from pathlib import Path


def read(path: Path) -> Iterator[dict]:
    """All changes, oldest first; none if there is no file."""
    for line in path.read_bytes().splitlines() if path.exists() else ():
        try:
            yield json.loads(line)
        except json.JSONDecodeError:
            # An incomplete line after a power loss during a write.
            continue


def append(path: Path, change: dict) -> None:
    with open(path, "a+b") as file:
        # An incomplete line must not merge with the next one.
        if file.tell() and (file.seek(-1, os.SEEK_END), file.read(1))[1] != b"\n":
            file.write(b"\n")
        file.write(json.dumps(change).encode() + b"\n")
        file.flush()
        os.fsync(file.fileno())
