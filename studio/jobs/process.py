"""Process of one direct job: `python -m studio.jobs.process DATABASE JOB`, with the secret (a token) on stdin."""

import contextlib
import importlib
import os
import signal
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

from studio.core import platform
from studio.core.logging import configure
from studio.core.workspace import Home
from studio.jobs.progress import Cancelled, ErrorBoundary, ProgressReporter
from studio.jobs.queue import DIRECT_KINDS, Jobs

INTERRUPT_AGAIN_SECONDS = 2.0
"""Enough for a job to remove what it has begun."""


def run_direct(database: Path, job_id: int, secret: bytes | None) -> bool:
    """Run one direct job in this process; True if it succeeded."""
    home, jobs = Home(database.parent), Jobs(database)
    job = jobs.claim_one(job_id, os.getpid())
    if job is None:
        return False
    module, _, name = DIRECT_KINDS[job.kind].partition(":")
    with ErrorBoundary(jobs, job, home.logs / f"job-{job.id}.log"), _interrupted_by_cancel(jobs, job.id):
        # Imported here, so that each kind imports only what it needs.
        function = vars(importlib.import_module(module))[name]
        result = function(home, job, ProgressReporter(jobs, job.id), secret)
        return jobs.finish(job.id, result)
    return False


@contextlib.contextmanager
def _interrupted_by_cancel(jobs: Jobs, job_id: int) -> Iterator[None]:
    """Raise Cancelled inside the block when the job is cancelled, even while it waits for the network.

    Once is not always enough: an import that is interrupted may go on, or fail with an error of its own.
    """
    asked, over = threading.Event(), threading.Event()

    def interrupt(*_: object) -> None:
        if not over.is_set():
            raise KeyboardInterrupt

    # A parent that ignores SIGINT (a shell's background job) passes that on to its children.
    signal.signal(signal.SIGINT, interrupt)

    def watch() -> None:
        while not over.wait(INTERRUPT_AGAIN_SECONDS if asked.is_set() else 0.2):
            if jobs.cancel_requested(job_id):
                asked.set()
                platform.interrupt_main_thread()

    watcher = threading.Thread(target=watch, daemon=True)
    watcher.start()
    try:
        yield
    except (KeyboardInterrupt, Exception) as error:
        if asked.is_set() or isinstance(error, KeyboardInterrupt):
            raise Cancelled from None
        raise
    finally:
        over.set()
        watcher.join()


if __name__ == "__main__":
    given = sys.stdin.buffer.read()
    configure("job", secrets=[given.decode(errors="replace")])
    done = run_direct(Path(sys.argv[1]), int(sys.argv[2]), given or None)
    sys.exit(0 if done else 1)
