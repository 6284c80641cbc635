"""Lists below the run that is shown: the training queue, all runs, and the removed ones."""

from collections.abc import Callable
from dataclasses import dataclass

import gradio as gr

from studio.runs.run import Run
from studio.ui.components import run_list, run_state
from studio.ui.components.html import html, notice, panel
from studio.ui.components.removed import build_removed
from studio.ui.studio import QUIET, Studio, show_errors


@dataclass(frozen=True)
class Lists:
    studio: Studio
    queue: gr.HTML
    message: gr.HTML
    listing: gr.HTML
    removed: gr.HTML

    def wire(self, show: Callable, inputs: list, outputs: list) -> None:
        """`show(*inputs, request)` returns the values of `outputs`; `inputs` are the open run and the ids of the ticked ones."""
        self._wire_queue(show, inputs, outputs)
        self._wire_removal(show, inputs, outputs)
        self._wire_picking(inputs)
        for each in (self.queue, self.listing):
            each.open(_opened, None, inputs[0], **QUIET)

    def _wire_queue(self, show: Callable, inputs: list, outputs: list) -> None:
        @show_errors
        def move(run_id: str | None, ids: list[str], request: gr.Request, event: gr.EventData) -> tuple:
            job = self.studio.jobs.get(int(event.job), self.studio.owner(request))
            if job.state == "waiting":
                self.studio.jobs.move(job.id, event.where)
            return show(run_id, ids, request)

        @show_errors
        def cancel(run_id: str | None, ids: list[str], request: gr.Request, event: gr.EventData) -> tuple:
            job = self.studio.jobs.get(int(event.job), self.studio.owner(request))
            if job.state == "waiting":
                self.studio.stop(job)
            return show(run_id, ids, request)

        self.queue.move(move, inputs, outputs, **QUIET)
        self.queue.cancel(cancel, inputs, outputs, **QUIET)

    def _wire_removal(self, show: Callable, inputs: list, outputs: list) -> None:
        @show_errors
        def remove(run_id: str | None, ids: list[str], request: gr.Request, event: gr.EventData) -> tuple:
            workspace = self.studio.workspace(request)
            run = Run.open(workspace, event.run)
            job = run_state.newest_jobs(self.studio, self.studio.owner(request)).get(run.id)
            if job and job.unfinished:
                return *[gr.skip()] * len(outputs), notice(f"{run.title} is still training. Stop it first.", "warn")
            workspace.remove(run.path)
            return *show(run_id, ids, request), ""

        @show_errors
        def restore(run_id: str | None, ids: list[str], request: gr.Request, event: gr.EventData) -> tuple:
            self.studio.workspace(request).restore(event.id)
            return *show(run_id, ids, request), ""

        self.listing.remove(remove, inputs, [*outputs, self.message], **QUIET)
        self.removed.restore(restore, inputs, [*outputs, self.message], **QUIET)

    def _wire_picking(self, inputs: list) -> None:
        @show_errors
        def pick(run_id: str | None, ids: list[str], request: gr.Request, event: gr.EventData) -> tuple:
            ids = [each for each in ids if each != event.run] + ([event.run] if event.value else [])
            runs = Run.all(self.studio.workspace(request))
            # Without an open run the newest one is shown.
            current = run_id or (runs[0].id if runs else None)
            jobs = run_state.newest_jobs(self.studio, self.studio.owner(request))
            return ids, run_list.listing(runs, jobs, current, {each.id for each in runs} & set(ids))

        self.listing.pick(pick, inputs, [inputs[1], self.listing], **QUIET)


def _opened(event: gr.EventData) -> str:
    return event.run


def build_lists(studio: Studio) -> Lists:
    queue = panel("", ("move", "cancel", "open"), elem_id="queue")
    message = html("")
    listing = panel("", ("open", "remove", "pick", "compare"), elem_id="run-list")
    removed = build_removed(studio, "runs")
    removed.render()
    return Lists(studio, queue, message, listing, removed)
