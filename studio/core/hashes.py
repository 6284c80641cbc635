"""SHA-256 of files, read in pieces. That of a large LoRA is kept beside it, as <name>.sha256, and valid until the file changes.

A job (import, training, worker) computes a hash; the web process reads kept hashes only, never a large file.
"""

import contextlib
import functools
import hashlib
import json
import os
from pathlib import Path

from studio.core.workspace import write_atomically

SMALL_BYTES = 16 * 1000**2
"""A file of at most this size is hashed wherever its hash is asked for, in 20 ms, and nothing is kept beside it."""


def sha256(path: Path, folder: Path | None = None) -> str:
    """The file's hash, computed and kept if it is not known yet. For jobs: it takes a second for a gigabyte.

    `folder`: keeps the hash there, for a file in a folder of the user's; None keeps it beside the file.
    """
    place = beside(path) if folder is None else folder / f"{hashlib.sha256(os.fsencode(path.absolute())).hexdigest()}.sha256"
    if kept := _kept(path, place):
        return kept
    digest = _read(path, _mark(path))
    keep(path, digest, place)
    return digest


def known(path: Path) -> str | None:
    """The file's hash if that costs nothing; None where a large file would have to be read."""
    if kept := _kept(path, beside(path)):
        return kept
    mark = _mark(path)
    return _read(path, mark) if mark[0] <= SMALL_BYTES else None


def keep(path: Path, digest: str, place: Path | None = None) -> None:
    """Store the hash of a large file in `place`, by default beside it. Where that is not possible (a full disk) it is computed again."""
    mark = _mark(path)
    if mark[0] > SMALL_BYTES:
        with contextlib.suppress(OSError):
            write_atomically(place or beside(path), json.dumps({"sha256": digest, "mark": mark}).encode())


def beside(path: Path) -> Path:
    """Where a file's hash is kept."""
    return path.with_name(f"{path.name}.sha256")


def _kept(path: Path, place: Path) -> str | None:
    try:
        facts = json.loads(place.read_bytes())
        return facts["sha256"] if facts["mark"] == list(_mark(path)) else None
    except (OSError, ValueError, TypeError, KeyError):
        return None


def _mark(path: Path) -> tuple[int, int, int]:
    """What differs once a file has been written anew: its size, time and place on the disk."""
    stat = os.stat(path)
    return stat.st_size, stat.st_mtime_ns, stat.st_ino


@functools.lru_cache(maxsize=1024)
def _read(path: Path, mark: tuple[int, int, int]) -> str:
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
