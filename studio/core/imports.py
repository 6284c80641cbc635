"""Imports without garbage collection. torch, diffusers and PEFT create hundreds of thousands of objects that live as long as the process; looking
for garbage among them costs a third of their import."""

import contextlib
import gc
from collections.abc import Iterator


def pause_garbage_collection() -> None:
    gc.disable()


def resume_garbage_collection() -> None:
    """What is there by now is never examined again."""
    gc.freeze()
    gc.enable()


@contextlib.contextmanager
def without_garbage_collection() -> Iterator[None]:
    if not gc.isenabled():
        yield
        return
    pause_garbage_collection()
    try:
        yield
    finally:
        resume_garbage_collection()
