"""What a reader sees of a file while it is replaced, and what a kill in the middle leaves: for every function that promises old or new."""

import multiprocessing
import os
import resource
import signal
import threading
from collections.abc import Callable
from pathlib import Path

Write = Callable[[Path, bytes], None]

SIZES = (3_000_000, 5_000_001)
"""Bytes of the two contents: large enough that a reader comes past while one is written, different so that half of one is no other."""
ROUNDS = 60


def contents() -> tuple[bytes, bytes]:
    return bytes(SIZES[0]), b"\xff" * SIZES[1]


def seen_while_replaced(write: Write, path: Path) -> set[str]:
    """What a reader found that reads as fast as it can while the content changes: "old", "new", or what it was instead."""
    old, new = contents()
    write(path, old)
    seen, done = set(), threading.Event()

    def read() -> None:
        while not done.is_set():
            try:
                found = path.read_bytes()
            except FileNotFoundError:
                seen.add("no file")
                continue
            seen.add("old" if found == old else "new" if found == new else "half a file" if found else "an empty file")

    reader = threading.Thread(target=read)
    reader.start()
    try:
        for number in range(ROUNDS):
            write(path, new if number % 2 == 0 else old)
    finally:
        done.set()
        reader.join()
    return seen


def left_by_a_kill(write: Write, path: Path) -> tuple[str, int]:
    """("old", "new" or what it was instead, the signal that ended the writer): the kernel ends it once half of the new bytes are written."""
    old, new = contents()
    write(path, old)

    def killed() -> None:
        # Python ignores this signal, and would get an error instead of dying.
        signal.signal(signal.SIGXFSZ, signal.SIG_DFL)
        resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
        resource.setrlimit(resource.RLIMIT_FSIZE, (len(new) // 2, len(new) // 2))
        write(path, new)
        os._exit(0)

    child = multiprocessing.get_context("fork").Process(target=killed)
    child.start()
    child.join()
    found = path.read_bytes() if path.exists() else None
    kind = "old" if found == old else "new" if found == new else "no file" if found is None else f"{len(found):,} bytes of neither"
    return kind, -child.exitcode
