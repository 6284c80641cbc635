"""Ballast: a process that takes GPU memory until the driver itself answers how much a smaller GPU would have free."""

import contextlib
import multiprocessing
from collections.abc import Iterator
from multiprocessing.connection import Connection

from studio.benchmark.cases.case import Machine
from studio.benchmark.cases.children import ChildFailed

FIRST_BYTES = 2**20
"""Allocated first, so that the CUDA context exists before free memory is read."""
STAND_IN_BYTES = 2**20
"""What a rehearsal takes of the RAM, only to start and end the process."""


@contextlib.contextmanager
def leaving(machine: Machine, free: int) -> Iterator[int]:
    """Leave `free` bytes of the GPU to other processes; yields what is left."""
    context = multiprocessing.get_context(machine.start_method)
    ours, theirs = context.Pipe()
    process = context.Process(target=_hold, args=(machine.device, free, theirs))  # type: ignore[attr-defined]
    process.start()
    theirs.close()
    try:
        if not ours.poll(60):
            raise ChildFailed("The ballast was not allocated within 60 seconds.")
        try:
            left = ours.recv()
        except EOFError:
            raise ChildFailed("The process with the ballast ended early.") from None
        yield left
    finally:
        process.kill()
        process.join()


def _hold(device: str, free: int, connection: Connection) -> None:
    import torch

    if device == "cpu":
        held = [torch.empty(STAND_IN_BYTES, dtype=torch.uint8)]
        connection.send(free)
    else:
        held = [torch.empty(FIRST_BYTES, dtype=torch.uint8, device="cuda")]
        if (surplus := torch.cuda.mem_get_info()[0] - free) > 0:
            held.append(torch.empty(surplus, dtype=torch.uint8, device="cuda"))
        connection.send(torch.cuda.mem_get_info()[0])
    # Ends when the other side does, or is killed.
    with contextlib.suppress(EOFError):
        connection.recv()
    del held
