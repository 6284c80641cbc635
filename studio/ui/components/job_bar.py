"""The bar at the foot of every tab, there only while something runs or waits: what, how far, how long, Stop."""

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
    "import": "Adding pictures",
    "caption": "Writing captions",
    "train": "Training",
    "generate": "Drawing",
    "adapter": "Adding a LoRA",
    "download": "Fetching a LoRA",
    "publish": "Publishing",
    "save": "Packing a LoRA",
}
SLOW = tuple(kind for kind in WORDS if kind != "generate")
"""All but drawing, which its own tab shows well enough: no bar for a second's work."""


def running(studio: Studio, owner: str) -> list[Job]:
    """What the bar shows: what runs, then what waits in its order."""
    return [job for job in studio.jobs.queue(SLOW) if job.owner == owner]


@dataclass(frozen=True)
class Item:
    """A job as the bar shows it."""

    id: int
    title: str
    share: float
    far: str
    stopping: bool


def show(workspace: Workspace, jobs: list[Job]) -> str:
    """Several trainings that wait are one line: the Train tab has their list."""
    if not jobs:
        return ""
    queued = [job for job in jobs if job.kind == "train" and job.state == "waiting"]
    shown = [job for job in jobs if len(queued) < 2 or job not in queued]
    items = [Item(job.id, title(workspace, job), share(job.done, job.total), how_far(job), job.cancel_requested) for job in shown]
    following = title(workspace, queued[0]).removeprefix(WORDS["train"]).strip() if len(queued) > 1 else ""
    return render("job_bar", "jobs", items, len(queued), following)


def working(job: Job) -> str:
    """One job in the middle of a tab: a bar, words, and Stop."""
    return render("job_bar", "working", WORDS[job.kind], share(job.done, job.total), how_far(job), job.id)


def title(workspace: Workspace, job: Job) -> str:
    words = WORDS.get(job.kind, job.kind)
    if job.kind != "train":
        return words
    try:
        return f"{words} {Run.open(workspace, job.payload['run']).title}"
    except StudioError:
        return words


def how_far(job: Job) -> str:
    """Progress in words: steps, then time."""
    if job.state == "waiting":
        return "waiting for its turn"
    if job.cancel_requested:
        return "saving, then stopping" if job.kind == "train" else "stopping"
    parts = []
    if job.total and (job.done or not job.message):
        parts.append(f"{job.done:,} of {job.total:,}" if job.kind != "train" else f"step {job.done:,} of {job.total:,}")
    if job.seconds_left is not None:
        parts.append(f"{duration(job.seconds_left)} left")
    return ", ".join(parts) or job.message or "starting"


def build(studio: Studio, rooms: gr.Tabs) -> gr.HTML:
    """The bar; its Stop asks the job to stop (a training saves first)."""
    shown = panel("", ("stop", "look"), elem_id="jobbar")

    @show_errors
    def stop(request: gr.Request, event: gr.EventData):
        owner = studio.owner(request)
        job = studio.jobs.get(int(event.job))
        if job.owner == owner:
            studio.stop(job)
        return show(studio.workspace(request), running(studio, owner))

    shown.stop(stop, None, shown, **QUIET)
    shown.look(lambda: gr.Tabs(selected="train"), None, rooms, **QUIET)
    return shown
