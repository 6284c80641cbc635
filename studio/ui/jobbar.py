"""The bar at the foot of every tab, there only while something runs or waits: what, how far, how long, Stop."""

import gradio as gr

from studio.errors import StudioError
from studio.jobs import UNFINISHED, Job
from studio.runs import Run
from studio.ui.html import bar, duration, panel, text
from studio.ui.studio import QUIET, Studio, in_words
from studio.workspace import Workspace

WORDS = {
    "import": "Adding pictures",
    "caption": "Writing captions",
    "train": "Training",
    "generate": "Drawing",
    "adapter": "Adding a LoRA",
    "download": "Fetching a LoRA",
    "publish": "Publishing",
}
SLOW = tuple(kind for kind in WORDS if kind != "generate")
"""All but drawing, which its own tab shows well enough: no bar for a second's work."""


def running(studio: Studio, owner: str) -> list[Job]:
    """What the bar shows, oldest first."""
    return list(reversed(studio.jobs.list(owner, kinds=SLOW, states=UNFINISHED)))


def show(workspace: Workspace, jobs: list[Job]) -> str:
    return f'<div class="jobbar"><ul>{"".join(_item(workspace, job) for job in jobs)}</ul></div>' if jobs else ""


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


def _item(workspace: Workspace, job: Job) -> str:
    stop = f'<button data-click="stop" data-job="{job.id}" {"disabled" if job.cancel_requested else ""}>Stop</button>'
    what = f'<span class="what">{text(title(workspace, job))}</span>'
    return f'<li>{what}{bar(job.done, job.total)}<span class="left">{text(how_far(job))}</span>{stop}</li>'


def build(studio: Studio) -> gr.HTML:
    """The bar; its Stop asks the job to stop (a training saves first)."""
    shown = panel("", ("stop",), elem_id="jobbar")

    @in_words
    def stop(request: gr.Request, event: gr.EventData):
        owner = studio.owner(request)
        job = studio.jobs.get(int(event.job))
        if job.owner == owner:
            studio.stop(job)
        return show(studio.workspace(request), running(studio, owner))

    shown.stop(stop, None, shown, **QUIET)
    return shown
