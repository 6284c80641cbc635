"""A file of changes, one JSON line each, only ever added to: what was written can be taken back, and a power loss costs half a line.

No locks here; whoever owns the file holds them.
"""

import json
import os
from collections.abc import Iterator
from pathlib import Path


def read(path: Path) -> Iterator[dict]:
    """Every change so far, oldest first; none when there is no file yet."""
    for line in path.read_bytes().splitlines() if path.exists() else ():
        try:
            yield json.loads(line)
        except json.JSONDecodeError:
            # Half a line, left by a power loss in the middle of a write.
            continue


def append(path: Path, change: dict) -> None:
    with open(path, "a+b") as file:
        # A half line must not swallow the next whole one.
        if file.tell() and (file.seek(-1, os.SEEK_END), file.read(1))[1] != b"\n":
            file.write(b"\n")
        file.write(json.dumps(change).encode() + b"\n")
        file.flush()
        os.fsync(file.fileno())
