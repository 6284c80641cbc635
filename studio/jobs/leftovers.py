"""Unfinished files that a killed process left in a home, deleted at the start of the studio."""

import logging
import re
import time
from collections.abc import Iterator
from pathlib import Path

from studio.core import platform, storage
from studio.core.workspace import OWNERS, Home

log = logging.getLogger(__name__)

INCOMING = re.compile(r"incoming-(\d+)-\d+")
"""Folder of an import: see Dataset.incoming."""
ASIDE = re.compile(r"\..+\.(\d+)-[0-9a-f]{8}")
"""File that would have replaced another one: see workspace.write_atomically."""
PART = (("adapters", "*.part"), ("published", ".*.part"))
"""Copies and zips without the number of their process in their name."""
SECONDS_UNTOUCHED = 86_400
"""After this time a file is left over, even where a process has the same number: numbers are reused, in containers soon."""


def sweep(home: Home) -> int:
    """Delete what was left over; returns how many files and folders. Those of running processes stay."""
    found = list(_leftovers(home))
    for path in found:
        storage.discard(path)
    if found:
        log.info("%d unfinished files and folders of processes that were killed were deleted", len(found))
    return len(found)


def _leftovers(home: Home) -> Iterator[Path]:
    now = time.time()
    for owner in sorted((home.root / OWNERS).glob("*")):
        for path in sorted([*owner.glob("datasets/*/incoming-*"), *owner.rglob(".*")]):
            match = (INCOMING if path.is_dir() else ASIDE).fullmatch(path.name)
            if match and (not platform.alive(int(match[1])) or _is_old(path, now)):
                yield path
        for folder, pattern in PART:
            yield from (path for path in sorted((owner / folder).glob(pattern)) if _is_old(path, now))


def _is_old(path: Path, now: float) -> bool:
    try:
        return now - path.stat().st_mtime > SECONDS_UNTOUCHED
    except OSError:
        return False
