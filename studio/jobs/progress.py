"""How a running job speaks to its row: progress on the way, and one border where every failure becomes a sentence."""

import logging
import time
from pathlib import Path

from studio.core.errors import StudioError

log = logging.getLogger(__name__)
SECONDS_BETWEEN_WRITES = 0.1


class Cancelled(Exception):
    """The person asked for this job to stop. Not an error."""


class ProgressReporter:
    """`report(done, total, message)` writes progress with an estimate of the seconds left, and raises Cancelled when that was asked for."""

    def __init__(self, jobs, job_id: int):
        self.jobs = jobs
        self.job_id = job_id
        self.began: tuple[float, int] | None = None
        self.written = -SECONDS_BETWEEN_WRITES
        self.said = ""

    def __call__(self, done: int, total: int, message: str = "") -> None:
        self.check()
        now = time.monotonic()
        # Every change of words and every end is written; the steps between only as often as anyone could read them.
        if message == self.said and done < total and now - self.written < SECONDS_BETWEEN_WRITES:
            return
        self.written, self.said = now, message
        # Measured from the first report on: what came before (waiting, loading) says nothing about the pace.
        self.began = self.began or (now, done)
        since, already = self.began
        seconds_left = (now - since) / (done - already) * (total - done) if done > already else None
        self.jobs.progress(self.job_id, done, total, seconds_left, message)

    def check(self) -> None:
        """Raise Cancelled when the person asked this job to stop."""
        if self.jobs.cancel_requested(self.job_id):
            raise Cancelled


class ErrorBoundary:
    """`with Border(jobs, job, log_file):` around a job's body: whatever goes wrong inside ends in the job's row, not in a dead process.

    The one place in the studio where any exception is accepted: the resident worker must outlive a job that hits a bug in a decoder,
    a driver or a model file. A StudioError is shown as it stands; for anything else the page gets a plain sentence and `log_file` the
    traceback. Only what is not an Exception (KeyboardInterrupt, SystemExit) passes through.
    """

    def __init__(self, jobs, job, log_file: Path):
        self.jobs = jobs
        self.job = job
        self.log_file = log_file

    def __enter__(self) -> "ErrorBoundary":
        return self

    def __exit__(self, kind, error, traceback) -> bool:
        if isinstance(error, Cancelled):
            self.jobs.mark_cancelled(self.job.id)
            return True
        if not isinstance(error, Exception):
            return False
        if not isinstance(error, StudioError):
            log.error("job %d (%s) failed", self.job.id, self.job.kind, exc_info=error)
        self.jobs.fail(self.job.id, error_message(error, self.log_file))
        return True


def error_message(error: Exception, log_file: Path) -> str:
    """What to tell a person about an error."""
    if isinstance(error, StudioError):
        return str(error)
    if isinstance(error, MemoryError):
        return "There is not enough memory for this; close other programs or choose fewer or smaller pictures."
    if "out of memory" in str(error).lower():
        return "The graphics card ran out of memory; choose a smaller picture size or fewer pictures at once, or a smaller base model."
    if isinstance(error, OSError) and error.errno == 28:
        return "The disk is full; free some space and try again. Nothing that was saved before is lost."
    return f"This did not work because of a fault in the studio ({type(error).__name__}); the details are in {log_file}."
