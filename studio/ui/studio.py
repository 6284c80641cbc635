"""What every tab needs: the home folder, the mode, the job queue, and whose Workspace a request belongs to."""

import asyncio
import functools
import inspect
from collections.abc import AsyncIterator, Callable, Sequence
from dataclasses import dataclass

import gradio as gr

from studio.config import TrainConfig
from studio.core.access import Access
from studio.core.errors import StudioError
from studio.core.workspace import Home, Workspace
from studio.datasets.dataset import Dataset
from studio.jobs import estimates, launch, worker
from studio.jobs.launch import TrainingRequest
from studio.jobs.queue import Job, Jobs
from studio.runs.run import Run

POLL_SECONDS = 0.03
OVER = ("done", "failed", "cancelled", "interrupted")


QUIET = {"api_visibility": "private", "show_progress": "hidden", "concurrency_limit": None}
"""For every handler of the page: no public endpoint, no veil over the page, no waiting for another visitor's handler."""


def in_words(handler: Callable) -> Callable:
    """For handlers whose part of the page has no place for a sentence, and for the API: a StudioError is then a message at the page's edge,
    or what the caller gets to read."""

    @functools.wraps(handler)
    def shown(*values):
        try:
            return handler(*values)
        except StudioError as error:
            raise gr.Error(str(error), print_exception=False) from None

    @functools.wraps(handler)
    async def shown_later(*values):
        try:
            return await handler(*values)
        except StudioError as error:
            raise gr.Error(str(error), print_exception=False) from None

    @functools.wraps(handler)
    async def shown_on_the_way(*values):
        try:
            async for each in handler(*values):
                yield each
        except StudioError as error:
            raise gr.Error(str(error), print_exception=False) from None

    if inspect.isasyncgenfunction(handler):
        return shown_on_the_way
    return shown_later if inspect.iscoroutinefunction(handler) else shown


@dataclass(frozen=True)
class Studio:
    home: Home
    access: Access
    jobs: Jobs

    def owner(self, request: gr.Request) -> str:
        return self.access.owner(request)

    def workspace(self, request: gr.Request) -> Workspace:
        """The caller's own things; nobody else's can be named through it."""
        return self.home.workspace(self.owner(request))

    def train(self, owner: str, dataset: Dataset, wanted: Sequence[TrainingRequest]) -> list[tuple[Run, Job]]:
        """Write runs down and queue them, all or none."""
        begun = launch.train(self.home.workspace(owner), self.jobs, dataset, wanted)
        worker.ensure(self.home)
        return begun

    def train_again(self, owner: str, run: Run, settings: Sequence[str] = (), title: str = "") -> list[tuple[Run, Job]]:
        """New runs of the same pictures with the settings of another, apart from these."""
        begun = launch.train_again(self.home.workspace(owner), self.jobs, run, settings, title)
        worker.ensure(self.home)
        return begun

    def count(self, owner: str, config: TrainConfig) -> Job:
        """Have a child count what such a training takes; while it counts, who asks again gets the same job."""
        return self.jobs.start(self.jobs.submit(owner, "estimate", {"config": config.model_dump(mode="json")}, key=estimates.key(config)))

    def go_on(self, owner: str, run: Run) -> Job:
        """Queue a run that is there already: from its last safe point, to the same file as if nothing had happened."""
        job = launch.resume(self.jobs, self.home.workspace(owner), run)
        worker.ensure(self.home)
        return job

    def stop(self, job: Job) -> None:
        """Ask a job to stop. A training hears it from its run, since the worker may be busy with pictures for minutes."""
        if self.jobs.cancel(job.id).state == "running" and job.kind == "train":
            Run.open(self.home.workspace(job.owner), job.payload["run"]).request_stop()

    async def watch(self, job: Job, every: float = POLL_SECONDS) -> AsyncIterator[Job]:
        """The job again each time it has changed, the last time when it is over. It goes on if nobody watches."""
        shown = None
        while True:
            now = self.jobs.get(job.id)
            seen = (now.state, now.done, now.total, now.message)
            if seen != shown:
                shown = seen
                yield now
            if now.state in OVER:
                return
            await asyncio.sleep(every)

    async def finished(self, job: Job) -> Job:
        """The job once it is over."""
        last = job
        async for now in self.watch(job):
            last = now
        return last
