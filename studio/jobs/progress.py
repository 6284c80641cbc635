"""Progress and errors of a running job, written to its row."""

import logging
import time
from pathlib import Path

from studio.core.errors import StudioError, error_message

log = logging.getLogger(__name__)
SECONDS_BETWEEN_WRITES = 0.1


class Cancelled(Exception):
    """The user cancelled this job. Not an error."""


class ProgressReporter:
    """`report(done, total, message)` writes progress with an estimate of the seconds left; raises Cancelled if the job was cancelled."""

    def __init__(self, jobs, job_id: int):
        self.jobs = jobs
        self.job_id = job_id
        self.began: tuple[float, int] | None = None
        self.written = -SECONDS_BETWEEN_WRITES
        self.message = ""

    def __call__(self, done: int, total: int, message: str = "") -> None:
        self.check()
        now = time.monotonic()
        # A new message and the last step are always written; steps in between at most ten times a second.
        if message == self.message and done < total and now - self.written < SECONDS_BETWEEN_WRITES:
            return
        self.written, self.message = now, message
        # Measured from the first report: waiting and loading before it say nothing about the speed.
        self.began = self.began or (now, done)
        since, already = self.began
        seconds_left = (now - since) / (done - already) * (total - done) if done > already else None
        self.jobs.progress(self.job_id, done, total, seconds_left, message)

    def check(self) -> None:
        """Raise Cancelled if the user cancelled this job."""
        if self.jobs.cancel_requested(self.job_id):
            raise Cancelled


class ErrorBoundary:
    """`with ErrorBoundary(jobs, job, log_file):` around a job's body writes any exception to the job's row and keeps the process alive.

    The only place that catches every Exception: the worker must survive a job that hits a bug in a decoder, a driver or a model file.
    The message of a StudioError is shown unchanged; for other exceptions the page shows a short message, and `log_file` gets the traceback.
    KeyboardInterrupt and SystemExit pass through.
    """

    def __init__(self, jobs, job, log_file: Path):
        self.jobs = jobs
        self.job = job
        self.log_file = log_file
        self.unexpected = False
        """Whether an exception other than a StudioError failed the job. Not the exception itself, whose frames would keep a model in memory."""

    def __enter__(self) -> "ErrorBoundary":
        self.began = time.monotonic()
        log.info("job %d (%s) begins", self.job.id, self.job.kind)
        return self

    def __exit__(self, kind, error, traceback) -> bool:
        seconds = time.monotonic() - self.began
        if isinstance(error, Cancelled):
            log.info("job %d (%s) cancelled after %.1f s", self.job.id, self.job.kind, seconds)
            self.jobs.mark_cancelled(self.job.id)
            return True
        if not isinstance(error, Exception):
            log.info("job %d (%s) returns after %.1f s", self.job.id, self.job.kind, seconds)
            return False
        self.unexpected = not isinstance(error, StudioError)
        # Without the message of a StudioError, which the page shows and which may quote what the user typed.
        level = logging.ERROR if self.unexpected else logging.WARNING
        log.log(level, "job %d (%s) failed after %.1f s", self.job.id, self.job.kind, seconds, exc_info=error)
        self.jobs.fail(self.job.id, error_message(error, self.log_file))
        return True
