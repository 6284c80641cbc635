"""Job bar at the foot of every tab, shown while a job runs or waits: title, progress, time left and Stop."""

from dataclasses import dataclass

import gradio as gr

from studio.core.errors import StudioError
from studio.core.workspace import Workspace
from studio.jobs.queue import Job
from studio.runs.run import Run
from studio.ui.components.html import duration, panel, share
from studio.ui.components.templates import render
from studio.ui.studio import QUIET, Studio, show_errors

WORDS = {
    "import": "Adding images",
    "caption": "Writing captions",
    "train": "Training",
    "generate": "Generating",
    "adapter": "Adding a LoRA",
    "download": "Downloading a LoRA",
    "publish": "Publishing",
    "save": "Saving a LoRA",
}
SLOW = tuple(kind for kind in WORDS if kind != "generate")
"""Jobs that the bar always shows. Generating takes seconds, and its own tab shows it, unless it waits for the end of a training."""


def running(studio: Studio, owner: str) -> list[Job]:
    """Jobs of the bar: the running ones, then the waiting ones in their order."""
    own = [job for job in studio.jobs.queue(WORDS) if job.owner == owner]
    return [job for job in own if job.kind in SLOW or (job.state == "waiting" and job.message)]


@dataclass(frozen=True)
class Item:
    """A job in the bar."""

    id: int
    title: str
    share: float
    progress: str
    stopping: bool


def show(workspace: Workspace, jobs: list[Job]) -> str:
    """Several waiting trainings share one line; the Train tab lists them."""
    if not jobs:
        return ""
    queued = [job for job in jobs if job.kind == "train" and job.state == "waiting"]
    shown = [job for job in jobs if len(queued) < 2 or job not in queued]
    items = [Item(job.id, title(workspace, job), share(job.done, job.total), progress_text(job), job.cancel_requested) for job in shown]
    following = title(workspace, queued[0]).removeprefix(WORDS["train"]).strip() if len(queued) > 1 else ""
    return render("job_bar", "jobs", items, len(queued), following)


def working(job: Job) -> str:
    """Progress of one job inside a tab, with Stop."""
    return render("job_bar", "working", WORDS[job.kind], share(job.done, job.total), progress_text(job), job.id)


def title(workspace: Workspace, job: Job) -> str:
    words = WORDS.get(job.kind, job.kind)
    if job.kind != "train":
        return words
    try:
        return f"{words} {Run.open(workspace, job.payload['run']).title}"
    except StudioError:
        return words


def progress_text(job: Job) -> str:
    """Progress in words: steps, then time left."""
    if job.state == "waiting":
        return job.message or "waiting in the queue"
    if job.cancel_requested:
        return "saving, then stopping" if job.kind == "train" else "stopping"
    parts = []
    if job.total and (job.done or not job.message):
        parts.append(f"{job.done:,} of {job.total:,}" if job.kind != "train" else f"step {job.done:,} of {job.total:,}")
    if job.seconds_left is not None:
        parts.append(f"{duration(job.seconds_left)} left")
    return ", ".join(parts) or job.message or "starting"


def build(studio: Studio, tabs: gr.Tabs) -> gr.HTML:
    """The bar. Stop requests a cancellation; a training saves first."""
    shown = panel("", ("stop", "show_queue"), elem_id="jobbar")

    @show_errors
    def stop(request: gr.Request, event: gr.EventData) -> str:
        owner = studio.owner(request)
        studio.stop(studio.jobs.get(int(event.job), owner))
        return show(studio.workspace(request), running(studio, owner))

    shown.stop(stop, None, shown, **QUIET)
    shown.show_queue(lambda: gr.Tabs(selected="train"), None, tabs, **QUIET)
    return shown
