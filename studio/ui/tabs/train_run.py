"""The run that is shown: state, film, loss, what can be done with it; and the list of all runs."""

from dataclasses import dataclass

import gradio as gr

from studio import worker
from studio.runs import Run
from studio.ui import removed, runs_view
from studio.ui.html import empty, notice, panel
from studio.ui.removed import build_removed
from studio.ui.studio import QUIET, Studio, in_words
from studio.ui.tabs.generate_stack import Wish
from studio.workspace import Workspace

NOTHING = empty("Nothing trained yet", "While it learns, sample pictures appear here, one column every few steps, so you can watch it improve.")


@dataclass(frozen=True)
class RunView:
    """For the frame: what to refresh, and how."""

    show: object
    shown: list


def build_run(studio: Studio, rooms: gr.Tabs, beat: gr.State, wanted: gr.State, open_run: gr.State, start: gr.Button) -> RunView:
    """`start` steps back once there is a run: the result is what matters then."""
    with gr.Column(elem_classes="pane", elem_id="run"):
        head = gr.HTML(NOTHING, elem_id="run-head")
        with gr.Row(elem_classes="toolbar"):
            try_it = gr.Button("Try it", variant="primary", visible=False, size="md", min_width=110, scale=0, elem_id="try-it")
            stop = gr.Button("Stop", visible=False, size="md", min_width=90, scale=0, elem_id="stop-run")
            resume = gr.Button("Resume", visible=False, size="md", min_width=110, scale=0, elem_id="resume-run")
        film = panel("", ("use",), elem_id="film")
        loss = gr.HTML("", elem_id="loss")
        said = gr.HTML("")
    listing = panel("", ("open", "remove"), elem_id="run-list")
    gone = build_removed(studio, "runs")
    gone.render()

    def opened(workspace: Workspace, run_id: str | None) -> Run | None:
        """The run asked for, or the newest."""
        runs = Run.all(workspace)
        return next((run for run in runs if run.id == run_id), runs[0] if runs else None)

    @in_words
    def show(run_id, request: gr.Request):
        owner, workspace = studio.owner(request), studio.workspace(request)
        run = opened(workspace, run_id)
        if run is None:
            hidden = gr.update(visible=False)
            first = gr.update(variant="primary", value="Start training")
            return NOTHING, hidden, hidden, hidden, "", "", "", first, removed.listing(workspace, "runs")
        jobs = runs_view.newest_jobs(studio, owner)
        now = runs_view.condition(run, jobs.get(run.id))
        busy = now.state in runs_view.BUSY
        return (
            runs_view.head(run, now),
            gr.update(visible=bool(run.adapters()), variant="secondary" if now.can_resume else "primary"),
            gr.update(visible=busy),
            gr.update(visible=now.can_resume, variant="primary"),
            runs_view.film(run, now),
            runs_view.loss(now),
            runs_view.listing(Run.all(workspace), jobs, run.id),
            gr.update(variant="secondary", value="Train another"),
            removed.listing(workspace, "runs"),
        )

    shown = [head, try_it, stop, resume, film, loss, listing, start, gone]
    open_run.change(show, open_run, shown, **QUIET)
    beat.change(show, open_run, shown, **QUIET)

    @in_words
    def ask_to_stop(run_id, request: gr.Request):
        run = opened(studio.workspace(request), run_id)
        job = runs_view.newest_jobs(studio, studio.owner(request)).get(run.id)
        if job and job.unfinished:
            studio.stop(job)
        return show(run_id, request)

    @in_words
    def go_on(run_id, request: gr.Request):
        """From the last safe point, to the same file as if nothing had happened."""
        run = opened(studio.workspace(request), run_id)
        run.clear_stop()
        studio.jobs.submit(studio.owner(request), "train", {"run": run.id}, key=run.job_key)
        worker.ensure(studio.home)
        return show(run.id, request)

    stop.click(ask_to_stop, open_run, shown, **QUIET)
    resume.click(go_on, open_run, shown, **QUIET)

    @in_words
    def try_run(run_id, request: gr.Request):
        return Wish((f"run:{opened(studio.workspace(request), run_id).id}",), alone=True), gr.Tabs(selected="generate")

    try_it.click(try_run, open_run, [wanted, rooms], **QUIET)

    def use_column(event: gr.EventData):
        return Wish((event.ref,), alone=True), gr.Tabs(selected="generate")

    film.use(use_column, None, [wanted, rooms], **QUIET)

    def open_one(event: gr.EventData):
        return event.run

    listing.open(open_one, None, open_run, **QUIET)

    @in_words
    def remove(run_id, request: gr.Request, event: gr.EventData):
        workspace = studio.workspace(request)
        run = Run.open(workspace, event.run)
        job = runs_view.newest_jobs(studio, studio.owner(request)).get(run.id)
        if job and job.unfinished:
            return *[gr.skip()] * len(shown), notice(f"{run.title} is still learning; stop it first.", "warn")
        workspace.remove(run.path)
        return *show(run_id if run_id != event.run else None, request), ""

    @in_words
    def put_back(run_id, request: gr.Request, event: gr.EventData):
        studio.workspace(request).restore(event.id)
        return *show(run_id, request), ""

    listing.remove(remove, open_run, [*shown, said], **QUIET)
    gone.restore(put_back, open_run, [*shown, said], **QUIET)
    return RunView(show, shown)
