"""Processes that begin with everything imported: forked from a server that has imported the training loop once.

A training among them has the loop's `main`, the log file and the exit status of `python -m studio.training.loop`, which imports for longer than
these tests train. tests/jobs/test_run_log.py trains by that command.
"""

import multiprocessing
import os
import sys
import threading
from collections.abc import Callable
from pathlib import Path
from unittest.mock import patch

import pytest

from studio.core import platform

if sys.platform != "win32":
    from multiprocessing import forkserver

TRAINING = "studio.training.loop"
PRELOADED = [TRAINING, "diffusers.pipelines.stable_diffusion.pipeline_stable_diffusion", "tests.forked"]
ENVIRONMENT = dict(os.environ)
"""As it is before the first test."""
context = multiprocessing.get_context("spawn" if sys.platform == "win32" else "forkserver")


def _train(arguments: list[str], log: Path, environment: dict[str, str]) -> None:
    os.environ.clear()
    os.environ.update(environment)
    os.setsid()
    output = os.open(log, os.O_CREAT | os.O_RDWR | os.O_APPEND)
    for stream in (1, 2):
        os.dup2(output, stream)
    from studio.training import loop
    from studio.training.run_log import configure_process

    configure_process()
    sys.exit(loop.main(arguments))


def start(function: Callable[..., object], *arguments: object) -> multiprocessing.Process:
    """Call a function in a process of its own, which ends with this one."""
    context.set_forkserver_preload(PRELOADED)
    if sys.platform != "win32":
        # Libraries read their variables while the server imports them: none may be that of the test which starts it.
        with patch.dict(os.environ, ENVIRONMENT, clear=True):
            forkserver.ensure_running()
    process = context.Process(target=function, args=arguments, daemon=True)
    process.start()
    return process


def start_training(arguments: list[str], log: Path) -> multiprocessing.Process:
    """Start `python -m studio.training.loop ARGUMENTS` with its output appended to `log`."""
    return start(_train, arguments, log, platform.environment())


@pytest.fixture
def forked_trainings(monkeypatch):
    """Trainings on one process start at once; other children, and distributed trainings, as ever."""
    real = platform.spawn

    def spawn(argv: list[str], log: Path, *, on_exit: Callable[[int], None] | None = None, **options):
        if argv[1:3] != ["-m", TRAINING]:
            return real(argv, log, on_exit=on_exit, **options)
        log.parent.mkdir(parents=True, exist_ok=True)
        process = start_training(argv[3:], log)

        def reap() -> None:
            process.join()
            if on_exit is not None:
                on_exit(process.exitcode)

        threading.Thread(target=reap, daemon=True).start()
        return process

    monkeypatch.setattr(platform, "spawn", spawn)
