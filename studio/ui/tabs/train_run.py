"""The run that is shown: state, film, loss, what can be done with it; below it what waits, and all runs."""

from dataclasses import dataclass

import gradio as gr

from studio.core.workspace import Workspace
from studio.jobs import launch, worker
from studio.runs.run import Run
from studio.ui.components import removed, run_list, run_state, run_view
from studio.ui.components.html import empty, html, panel
from studio.ui.studio import QUIET, Studio, show_errors
from studio.ui.tabs.generate_stack import StackRequest
from studio.ui.tabs.train_list import build_list

NOTHING = empty("Nothing trained yet", "While it learns, sample pictures appear here, one column every few steps, so you can watch it improve.")


@dataclass(frozen=True)
class RunView:
    """For the frame: what to refresh, from what, and how. For the tab: `more` asks by `copy` and `begin` to fill the form from the run, the
    list by `compare` to lay the `picked` runs beside each other. `arrive` says which run a page that is just opened shows."""

    arrive: object
    show: object
    asked: list
    shown: list
    more: gr.HTML
    listing: gr.HTML
    picked: gr.State


def opened(workspace: Workspace, run_id: str | None) -> Run | None:
    """The run asked for, or the newest."""
    runs = Run.all(workspace)
    return next((run for run in runs if run.id == run_id), runs[0] if runs else None)


def build_run(studio: Studio, rooms: gr.Tabs, beat: gr.State, wanted: gr.State, open_run: gr.State, start: gr.Button) -> RunView:
    """`start` steps back once there is a run: the result is what matters then."""
    picked = gr.State([])
    with gr.Column(elem_classes="pane", elem_id="run"):
        head = html(NOTHING, elem_id="run-head")
        with gr.Row(elem_classes="toolbar"):
            try_it = gr.Button("Try it", variant="primary", visible=False, size="md", min_width=110, scale=0, elem_id="try-it")
            stop = gr.Button("Stop", visible=False, size="md", min_width=90, scale=0, elem_id="stop-run")
            resume = gr.Button("Resume", visible=False, size="md", min_width=110, scale=0, elem_id="resume-run")
        film = panel("", ("use",), elem_id="film")
        loss = html("", elem_id="loss")
        more = panel("", ("retry", "extend", "copy", "begin"), elem_id="run-more")
    lists = build_list(studio)
    asked = [open_run, picked]

    @show_errors
    def arrive(request: gr.Request):
        """What learns now is what somebody comes back to see; without it the newest run stands there, which needs no name."""
        running = (job for job in run_state.newest_jobs(studio, studio.owner(request)).values() if job.state == "running")
        return next((job.payload["run"] for job in running), None)

    @show_errors
    def show(run_id, picked, request: gr.Request):
        owner, workspace = studio.owner(request), studio.workspace(request)
        run = opened(workspace, run_id)
        if run is None:
            hidden = gr.update(visible=False)
            first = gr.update(variant="primary", value="Start training")
            return NOTHING, hidden, hidden, hidden, "", "", "", first, "", "", removed.listing(workspace, "runs")
        jobs, runs = run_state.newest_jobs(studio, owner), Run.all(workspace)
        now = run_state.condition(run, jobs.get(run.id))
        return (
            run_view.head(run, now),
            gr.update(visible=bool(run.adapters()), variant="secondary" if now.can_resume else "primary"),
            gr.update(visible=now.state in run_state.BUSY, value="Take out of the queue" if now.state == "waiting" else "Stop"),
            gr.update(
                visible=now.can_resume,
                value="Start" if now.state == "created" else "Resume",
                variant="secondary" if now.retries else "primary",
            ),
            run_view.film(run, now),
            run_view.loss(now),
            run_view.more(run, now),
            gr.update(variant="secondary", value="Train another"),
            run_list.waiting(studio, owner),
            run_list.listing(runs, jobs, run.id, {each.id for each in runs} & set(picked)),
            removed.listing(workspace, "runs"),
        )

    shown = [head, try_it, stop, resume, film, loss, more, start, lists.waiting, lists.listing, lists.gone]
    open_run.change(show, asked, shown, **QUIET)
    beat.change(show, asked, shown, **QUIET)

    @show_errors
    def ask_to_stop(run_id, picked, request: gr.Request):
        run = opened(studio.workspace(request), run_id)
        job = run_state.newest_jobs(studio, studio.owner(request)).get(run.id)
        if job and job.unfinished:
            studio.stop(job)
        return show(run_id, picked, request)

    @show_errors
    def go_on(run_id, picked, request: gr.Request):
        run = opened(studio.workspace(request), run_id)
        run.clear_stop()
        studio.resume_run(studio.owner(request), run)
        return show(run.id, picked, request)

    stop.click(ask_to_stop, asked, shown, **QUIET)
    resume.click(go_on, asked, shown, **QUIET)

    @show_errors
    def extend(run_id, picked, request: gr.Request, event: gr.EventData):
        run = opened(studio.workspace(request), run_id)
        if run_state.condition(run, run_state.newest_jobs(studio, studio.owner(request)).get(run.id)).state != "finished":
            # The second of two clicks.
            return show(run.id, picked, request)
        run.extend(int(event.value) if str(event.value).isdigit() else event.value)
        studio.resume_run(studio.owner(request), run)
        return show(run.id, picked, request)

    @show_errors
    def retry(run_id, request: gr.Request, event: gr.EventData):
        workspace = studio.workspace(request)
        run, _ = launch.retry(workspace, studio.jobs, opened(workspace, run_id), int(event.number))
        worker.ensure(studio.home)
        return run.id

    more.extend(extend, asked, shown, **QUIET)
    more.retry(retry, open_run, open_run, **QUIET)

    @show_errors
    def try_run(run_id, request: gr.Request):
        return StackRequest((f"run:{opened(studio.workspace(request), run_id).id}",), alone=True), gr.Tabs(selected="generate")

    try_it.click(try_run, open_run, [wanted, rooms], **QUIET)

    def use_column(event: gr.EventData):
        return StackRequest((event.ref,), alone=True), gr.Tabs(selected="generate")

    film.use(use_column, None, [wanted, rooms], **QUIET)
    lists.wire(show, asked, shown)
    return RunView(arrive, show, asked, shown, more, lists.listing, picked)
