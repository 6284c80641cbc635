"""Image job in the hands of a training process, which draws it with its own base; the worker follows it by the files of the run."""

import logging
from collections.abc import Callable

from studio.jobs.progress import Cancelled, ProgressReporter
from studio.jobs.queue import Job, Jobs
from studio.runs.image_requests import ImageRequests

log = logging.getLogger(__name__)


class HandedJob:
    """Copies progress and outcome to the job's row. `tick()` never blocks."""

    def __init__(self, jobs: Jobs, job: Job, requests: ImageRequests):
        self.jobs, self.job, self.requests = jobs, job, requests
        self.key = f"{job.id:09d}-{job.attempts}"
        self.report = ProgressReporter(jobs, job.id)
        self.shown: dict | None = None

    def tick(self, waits: Callable[[], str]) -> bool:
        """Whether the job is unfinished. `waits()` is its message until the training process begins."""
        if (outcome := self.requests.result(self.key)) is not None:
            self.requests.forget(self.key)
            log.info("job %d (generate) ended in the training process", self.job.id)
            if "error" in outcome:
                self.jobs.fail(self.job.id, outcome["error"])
            else:
                self.jobs.finish(self.job.id, outcome["result"])
            return False
        progress = self.requests.progress(self.key) or {"done": 0, "total": 0, "message": waits()}
        try:
            if progress == self.shown:
                self.report.check()
            else:
                self.report(**progress)
                self.shown = progress
        except Cancelled:
            log.info("job %d (generate) cancelled", self.job.id)
            self.requests.cancel(self.key)
            self.jobs.mark_cancelled(self.job.id)
            return False
        return True
