"""The run that the Train tab shows: state, sample grid, loss and actions; below it the queue and all runs."""

from dataclasses import dataclass

import gradio as gr

from studio.core.errors import StudioError
from studio.core.workspace import Workspace
from studio.jobs import launch, worker
from studio.runs.run import Run
from studio.ui.components import removed, run_list, run_state, run_view
from studio.ui.components.html import empty, html, panel
from studio.ui.studio import QUIET, Studio, show_errors
from studio.ui.tabs.generate_stack import StackRequest
from studio.ui.tabs.train_list import Lists, build_lists

NO_RUN = empty("Nothing trained yet", "During training, samples appear here, one column every few steps, so that you can watch the LoRA improve.")


@dataclass(frozen=True)
class RunView:
    """Components of the run that is shown. `open_run` holds its id (None: the newest run), `picked` the ids of the runs ticked to compare."""

    studio: Studio
    open_run: gr.State
    picked: gr.State
    head: gr.HTML
    try_it: gr.Button
    stop: gr.Button
    resume: gr.Button
    sample_grid: gr.HTML
    loss: gr.HTML
    actions: gr.HTML
    lists: Lists

    @property
    def inputs(self) -> list:
        """Inputs of `show`."""
        return [self.open_run, self.picked]

    @property
    def outputs(self) -> list:
        """Outputs of `show`."""
        buttons = [self.try_it, self.stop, self.resume]
        lists = [self.lists.queue, self.lists.listing, self.lists.removed]
        return [self.head, *buttons, self.sample_grid, self.loss, self.actions, *lists]

    @property
    def listing(self) -> gr.HTML:
        return self.lists.listing

    @show_errors
    def find_running(self, request: gr.Request) -> str | None:
        """Id of the run to show on page load: the one that is training. None shows the newest."""
        running = (job for job in run_state.newest_jobs(self.studio, self.studio.owner(request)).values() if job.state == "running")
        return next((job.payload["run"] for job in running), None)

    @show_errors
    def show(self, run_id: str | None, picked: list[str], request: gr.Request) -> tuple:
        """Values of `outputs`."""
        owner, workspace = self.studio.owner(request), self.studio.workspace(request)
        run = find_run(workspace, run_id)
        if run is None:
            hidden = gr.update(visible=False)
            return NO_RUN, hidden, hidden, hidden, "", "", "", "", "", removed.listing(workspace, "runs")
        jobs, runs = run_state.newest_jobs(self.studio, owner), Run.all(workspace)
        now = run_state.condition(run, jobs.get(run.id))
        return (
            run_view.head(run, now),
            gr.update(visible=bool(run.adapters()), variant="secondary" if now.can_resume else "primary"),
            gr.update(visible=now.state in run_state.BUSY, value="Remove from the queue" if now.state == "waiting" else "Stop"),
            gr.update(
                visible=now.can_resume,
                value="Start" if now.state == "created" else "Resume",
                variant="secondary" if now.retries else "primary",
            ),
            run_view.sample_grid(run, now),
            run_view.loss(now),
            run_view.actions(run, now),
            run_list.waiting(self.studio, owner),
            run_list.listing(runs, jobs, run.id, {each.id for each in runs} & set(picked)),
            removed.listing(workspace, "runs"),
        )


def find_run(workspace: Workspace, run_id: str | None) -> Run | None:
    """The run with this id, or the newest one."""
    runs = Run.all(workspace)
    return next((run for run in runs if run.id == run_id), runs[0] if runs else None)


def shown_run(workspace: Workspace, run_id: str | None) -> Run:
    """As `find_run`; StudioError where there is no run."""
    run = find_run(workspace, run_id)
    if run is None:
        raise StudioError("There is no run. Start a training first.")
    return run


def build_run(studio: Studio, tabs: gr.Tabs, job_changes: gr.State, requested: gr.State, open_run: gr.State) -> RunView:
    """`requested` receives the LoRAs to load in Generate."""
    picked = gr.State([])
    with gr.Column(elem_classes="pane", elem_id="run"):
        head = html(NO_RUN, elem_id="run-head")
        with gr.Row(elem_classes="toolbar"):
            try_it = gr.Button("Try it", variant="primary", visible=False, size="md", min_width=110, scale=0, elem_id="try-it")
            stop = gr.Button("Stop", visible=False, size="md", min_width=90, scale=0, elem_id="stop-run")
            resume = gr.Button("Resume", visible=False, size="md", min_width=110, scale=0, elem_id="resume-run")
        sample_grid = panel("", ("use",), elem_id="sample-grid")
        loss = html("", elem_id="loss")
        actions = panel("", ("retry", "extend", "copy", "start_from"), elem_id="run-actions")
    view = RunView(studio, open_run, picked, head, try_it, stop, resume, sample_grid, loss, actions, build_lists(studio))
    for changed in (open_run, job_changes):
        changed.change(view.show, view.inputs, view.outputs, **QUIET)
    _wire_state(view)
    _wire_actions(view)
    _wire_try(view, tabs, requested)
    view.lists.wire(view.show, view.inputs, view.outputs)
    return view


def _wire_state(view: RunView) -> None:
    studio = view.studio

    @show_errors
    def stop(run_id: str | None, picked: list[str], request: gr.Request) -> tuple:
        run = shown_run(studio.workspace(request), run_id)
        job = run_state.newest_jobs(studio, studio.owner(request)).get(run.id)
        if job and job.unfinished:
            studio.stop(job)
        return view.show(run_id, picked, request)

    @show_errors
    def resume(run_id: str | None, picked: list[str], request: gr.Request) -> tuple:
        run = shown_run(studio.workspace(request), run_id)
        run.clear_stop()
        studio.resume_run(studio.owner(request), run)
        return view.show(run.id, picked, request)

    view.stop.click(stop, view.inputs, view.outputs, **QUIET)
    view.resume.click(resume, view.inputs, view.outputs, **QUIET)


def _wire_actions(view: RunView) -> None:
    studio = view.studio

    @show_errors
    def extend(run_id: str | None, picked: list[str], request: gr.Request, event: gr.EventData) -> tuple:
        run = shown_run(studio.workspace(request), run_id)
        if run_state.condition(run, run_state.newest_jobs(studio, studio.owner(request)).get(run.id)).state != "finished":
            # The second of two clicks.
            return view.show(run.id, picked, request)
        run.extend(int(event.value) if str(event.value).isdigit() else event.value, event.schedule)
        studio.resume_run(studio.owner(request), run)
        return view.show(run.id, picked, request)

    @show_errors
    def retry(run_id: str | None, request: gr.Request, event: gr.EventData) -> str:
        workspace = studio.workspace(request)
        run, _ = launch.retry(workspace, studio.jobs, shown_run(workspace, run_id), int(event.number))
        worker.ensure(studio.home)
        return run.id

    view.actions.extend(extend, view.inputs, view.outputs, **QUIET)
    view.actions.retry(retry, view.open_run, view.open_run, **QUIET)


def _wire_try(view: RunView, tabs: gr.Tabs, requested: gr.State) -> None:
    @show_errors
    def try_run(run_id: str | None, request: gr.Request) -> tuple:
        run = shown_run(view.studio.workspace(request), run_id)
        return StackRequest((f"run:{run.id}",), alone=True), gr.Tabs(selected="generate")

    def try_checkpoint(event: gr.EventData) -> tuple:
        return StackRequest((event.ref,), alone=True), gr.Tabs(selected="generate")

    view.try_it.click(try_run, view.open_run, [requested, tabs], **QUIET)
    view.sample_grid.use(try_checkpoint, None, [requested, tabs], **QUIET)
