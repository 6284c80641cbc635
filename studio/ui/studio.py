"""The studio as every tab sees it: home folder, access mode, job queue, and the Workspace of a request."""

import functools
import inspect
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import gradio as gr

from studio import doctor
from studio.config import TrainConfig
from studio.core.access import Access
from studio.core.errors import StudioError
from studio.core.workspace import Home, Workspace
from studio.datasets.dataset import Dataset
from studio.jobs import estimates, launch, worker
from studio.jobs.launch import TrainingRequest
from studio.jobs.queue import Job, Jobs
from studio.runs.run import Run
from studio.ui.hidden_paths import HiddenPaths
from studio.ui.waiting import WaitingRoom

QUIET = {"api_visibility": "private", "show_progress": "hidden", "concurrency_limit": None}
"""Options of every handler of the page: no public endpoint, no progress overlay, no waiting for another visitor's handler."""


def show_errors(handler: Callable) -> Callable:
    """Decorator for API endpoints and for handlers that have no field for a message: a StudioError becomes a gr.Error, which the page shows as a
    toast and the API returns to the caller."""

    @functools.wraps(handler)
    def shown(*values):
        try:
            return handler(*values)
        except StudioError as error:
            raise gr.Error(str(error), print_exception=False) from None

    @functools.wraps(handler)
    async def shown_async(*values):
        try:
            return await handler(*values)
        except StudioError as error:
            raise gr.Error(str(error), print_exception=False) from None

    return shown_async if inspect.iscoroutinefunction(handler) else shown


@dataclass(frozen=True)
class Studio:
    home: Home
    access: Access
    jobs: Jobs

    def owner(self, request: gr.Request) -> str:
        return self.access.owner(request)

    def workspace(self, request: gr.Request) -> Workspace:
        """The caller's own Workspace; no other can be reached through it."""
        return self.home.workspace(self.owner(request))

    def train(self, owner: str, dataset: Dataset, requests: Sequence[TrainingRequest]) -> list[tuple[Run, Job]]:
        """Create runs and queue them, all or none."""
        started = launch.train(self.home.workspace(owner), self.jobs, dataset, requests)
        worker.ensure(self.home)
        return started

    def train_again(self, owner: str, run: Run, settings: Sequence[str] = (), title: str = "") -> list[tuple[Run, Job]]:
        """Queue new runs with the images and settings of another run, with these settings changed."""
        started = launch.train_again(self.home.workspace(owner), self.jobs, run, settings, title)
        worker.ensure(self.home)
        return started

    def start_estimate(self, owner: str, config: TrainConfig) -> Job:
        """Estimate time and memory of a training in a child process; a second request for the same config gets the same job."""
        payload, key = {"config": config.model_dump(mode="json")}, estimates.key(config)
        job = self.jobs.submit(owner, "estimate", payload, key)
        if self.jobs.cancel_requested(job.id):
            # Its process has not ended yet.
            job = self.jobs.submit(owner, "estimate", payload, f"{key}-after-{job.id}")
        return self.jobs.start(job)

    def resume_run(self, owner: str, run: Run) -> Job:
        """Queue an existing run: it continues from its last resume state and ends with the same bytes as without a stop."""
        job = launch.resume(self.jobs, self.home.workspace(owner), run)
        worker.ensure(self.home)
        return job

    def stop(self, job: Job) -> None:
        """Request that a job stops. A training reads the request from its run, since the worker may be busy with images for minutes."""
        if self.jobs.cancel(job.id).state == "running" and job.kind == "train":
            Run.open(self.home.workspace(job.owner), job.payload["run"]).request_stop()

    @functools.cached_property
    def gpu_gigabytes(self) -> int | None:
        """Memory of this computer's GPU; None without one."""
        return doctor.find_gpu_memory()

    @functools.cached_property
    def hidden_paths(self) -> HiddenPaths:
        return HiddenPaths.of(self.home, self.access)

    @functools.cached_property
    def waiting(self) -> WaitingRoom:
        return WaitingRoom(self.jobs)

    async def result(self, job: Job) -> dict[str, Any]:
        """The result of a job once it has ended, for endpoints; a StudioError if it failed or was stopped."""
        ended = await self.waiting.ended(job)
        if ended.state != "done":
            raise StudioError(ended.error or f"The {ended.kind} job ended as {ended.state}.")
        return ended.result
