"""Trainings of which every x86-64 processor gives the same bytes: `python -m tests.homes.training RUN_FOLDER...`, in the environment PINNED.

All but for square roots. torch takes those of a whole tensor with MKL, which refines an approximation (the instruction rsqrtps) that AMD's
processors compute otherwise than Intel's, to a last bit that differs; no setting changes that. Of the optimizers, adamw does not use it.
"""

import hashlib
import subprocess
import sys
from collections.abc import Iterable

from studio.core import platform
from studio.runs.run import Run

PINNED = {
    "ATEN_CPU_CAPABILITY": "default",
    "MKL_CBWR": "COMPATIBLE",
    "ONEDNN_MAX_CPU_ISA": "SSE41",
    "OMP_NUM_THREADS": "1",
}
"""torch's own kernels, MKL and oneDNN choose their instructions by the processor, and each choice rounds otherwise; these are the ones that all
have. Every library reads its variable when it loads, so they are set before torch is imported."""


def train(runs: Iterable[Run]) -> str:
    """Train these runs to their ends, one after the other, in a process of their own; returns its `roots`. A run that fails says so in its
    events, and the others go on."""
    command = [sys.executable, "-m", "tests.homes.training", *(str(run.path) for run in runs)]
    done = subprocess.run(command, env=platform.environment(**PINNED), capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return done.stdout.split()[-1]


def roots() -> str:
    """A hash of many square roots: the same on processors that take them alike."""
    import torch

    return hashlib.sha256((torch.arange(1, 10_000) / 7).sqrt().numpy().tobytes()).hexdigest()


if __name__ == "__main__":
    from studio.training import loop

    for folder in sys.argv[1:]:
        loop.main([folder])
    print(roots())
