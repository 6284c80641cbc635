"""The bar at the foot of every tab, there only while something runs or waits: what, how far, how long, Stop."""

import gradio as gr

from studio.core.errors import StudioError
from studio.core.workspace import Workspace
from studio.jobs.queue import Job
from studio.runs.run import Run
from studio.ui.components.html import bar, duration, panel, text
from studio.ui.studio import QUIET, Studio, in_words

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


def show(workspace: Workspace, jobs: list[Job]) -> str:
    """Several trainings that wait are one line: the Train tab has their list."""
    queued = [job for job in jobs if job.kind == "train" and job.state == "waiting"]
    shown = [job for job in jobs if len(queued) < 2 or job not in queued]
    items = "".join(_item(workspace, job) for job in shown)
    if len(queued) > 1:
        words = f"next: {text(title(workspace, queued[0]).removeprefix(WORDS['train']).strip())}"
        items += f'<li class="queued"><span class="what">{len(queued)} trainings wait</span><span></span><span class="left">{words}</span>{LOOK}</li>'
    return f'<div class="jobbar"><ul>{items}</ul></div>' if jobs else ""


LOOK = '<button data-click="look">Show</button>'


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


def build(studio: Studio, rooms: gr.Tabs) -> gr.HTML:
    """The bar; its Stop asks the job to stop (a training saves first)."""
    shown = panel("", ("stop", "look"), elem_id="jobbar")

    @in_words
    def stop(request: gr.Request, event: gr.EventData):
        owner = studio.owner(request)
        job = studio.jobs.get(int(event.job))
        if job.owner == owner:
            studio.stop(job)
        return show(studio.workspace(request), running(studio, owner))

    shown.stop(stop, None, shown, **QUIET)
    to_queue = "() => setTimeout(() => document.querySelector('#queue')?.scrollIntoView({block: 'center'}), 300)"
    shown.look(lambda: gr.Tabs(selected="train"), None, rooms, **QUIET).then(None, None, None, js=to_queue)
    return shown
