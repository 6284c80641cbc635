"""Below the run that is shown: what waits and in which order, every run there is, and those that were removed."""

from collections.abc import Callable
from dataclasses import dataclass

import gradio as gr

from studio.core.errors import StudioError
from studio.jobs.queue import Job
from studio.runs.run import Run
from studio.ui.components import run_list, run_state
from studio.ui.components.html import html, notice, panel
from studio.ui.components.removed import build_removed
from studio.ui.studio import QUIET, Studio, show_errors


@dataclass(frozen=True)
class Lists:
    """The three lists, and `wire(show, asked, shown)` for when all of the tab is there."""

    waiting: gr.HTML
    listing: gr.HTML
    gone: gr.HTML
    wire: Callable


def build_list(studio: Studio) -> Lists:
    waiting = panel("", ("move", "cancel", "open"), elem_id="queue")
    said = html("")
    listing = panel("", ("open", "remove", "pick", "compare"), elem_id="run-list")
    gone = build_removed(studio, "runs")
    gone.render()

    def own(request: gr.Request, job_id: str) -> Job:
        job = studio.jobs.get(int(job_id))
        if job.owner != studio.owner(request):
            raise StudioError("That training is not here any more; look at the list of what waits.")
        return job

    def wire(show: Callable, asked: list, shown: list) -> None:
        """`show(*asked, request)` gives what `shown` shows."""
        open_run, picked = asked

        @show_errors
        def move(run_id, ids, request: gr.Request, event: gr.EventData):
            job = own(request, event.job)
            if job.state == "waiting":
                studio.jobs.move(job.id, event.where)
            return show(run_id, ids, request)

        @show_errors
        def cancel(run_id, ids, request: gr.Request, event: gr.EventData):
            job = own(request, event.job)
            if job.state == "waiting":
                studio.stop(job)
            return show(run_id, ids, request)

        @show_errors
        def remove(run_id, ids, request: gr.Request, event: gr.EventData):
            workspace = studio.workspace(request)
            run = Run.open(workspace, event.run)
            job = run_state.newest_jobs(studio, studio.owner(request)).get(run.id)
            if job and job.unfinished:
                return *[gr.skip()] * len(shown), notice(f"{run.title} is still learning; stop it first.", "warn")
            workspace.remove(run.path)
            return *show(run_id if run_id != event.run else None, ids, request), ""

        @show_errors
        def put_back(run_id, ids, request: gr.Request, event: gr.EventData):
            studio.workspace(request).restore(event.id)
            return *show(run_id, ids, request), ""

        @show_errors
        def pick(run_id, ids, request: gr.Request, event: gr.EventData):
            ids = [each for each in ids if each != event.run] + ([event.run] if event.value else [])
            runs = Run.all(studio.workspace(request))
            # Without a run in the list's words, the newest one is the one that is shown.
            current = run_id or (runs[0].id if runs else None)
            jobs = run_state.newest_jobs(studio, studio.owner(request))
            return ids, run_list.listing(runs, jobs, current, {each.id for each in runs} & set(ids))

        def open_one(event: gr.EventData):
            return event.run

        waiting.move(move, asked, shown, **QUIET)
        waiting.cancel(cancel, asked, shown, **QUIET)
        listing.pick(pick, asked, [picked, listing], **QUIET)
        listing.remove(remove, asked, [*shown, said], **QUIET)
        gone.restore(put_back, asked, [*shown, said], **QUIET)
        for each in (waiting, listing):
            each.open(open_one, None, open_run, **QUIET)

    return Lists(waiting, listing, gone, wire)
