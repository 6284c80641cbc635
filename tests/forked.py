"""Training processes that begin with everything imported: forked from a server that has imported the training loop once.

They are processes of their own, with the loop's `main` and the log file and exit status of `python -m studio.training.loop`, which imports for
longer than these tests train. tests/jobs/test_run_log.py trains by that command.
"""

import multiprocessing
import os
import sys
import threading
from collections.abc import Callable
from pathlib import Path

import pytest

from studio.core import platform

TRAINING = "studio.training.loop"
PRELOADED = [TRAINING, "diffusers.pipelines.stable_diffusion.pipeline_stable_diffusion", "tests.forked"]
context = multiprocessing.get_context("spawn" if sys.platform == "win32" else "forkserver")


def _train(arguments: list[str], log: Path, environment: dict[str, str]) -> None:
    os.environ.clear()
    os.environ.update(environment)
    os.setsid()
    output = os.open(log, os.O_CREAT | os.O_RDWR | os.O_APPEND)
    for stream in (1, 2):
        os.dup2(output, stream)
    from studio.training import loop

    sys.exit(loop.main(arguments))


def start(arguments: list[str], log: Path) -> multiprocessing.Process:
    """Start `python -m studio.training.loop ARGUMENTS` with its output appended to `log`."""
    context.set_forkserver_preload(PRELOADED)
    process = context.Process(target=_train, args=(arguments, log, platform.environment()), daemon=True)
    process.start()
    return process


@pytest.fixture
def forked_trainings(monkeypatch):
    """Trainings on one process start at once; other children, and distributed trainings, as ever."""
    real = platform.spawn

    def spawn(argv: list[str], log: Path, *, on_exit: Callable[[int], None] | None = None, **options):
        if argv[1:3] != ["-m", TRAINING]:
            return real(argv, log, on_exit=on_exit, **options)
        log.parent.mkdir(parents=True, exist_ok=True)
        process = start(argv[3:], log)

        def reap() -> None:
            process.join()
            if on_exit is not None:
                on_exit(process.exitcode)

        threading.Thread(target=reap, daemon=True).start()
        return process

    monkeypatch.setattr(platform, "spawn", spawn)
