"""The run that the Train tab shows: state, sample grid, loss and actions; below it the queue and all runs."""

import time
from dataclasses import dataclass

import gradio as gr

from studio.core import platform
from studio.core.access import Mode
from studio.core.errors import StudioError
from studio.core.workspace import Workspace
from studio.jobs import launch, worker
from studio.runs.run import Run
from studio.ui.components import generation, removed, run_list, run_state, run_view
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
    title: gr.HTML
    head: gr.HTML
    help_first: gr.HTML
    try_it: gr.Button
    stop: gr.Button
    resume: gr.Button
    now: gr.Button
    """Generates a sample at the current step of the training."""
    file: gr.HTML
    sample_grid: gr.HTML
    loss: gr.HTML
    log_fold: gr.Accordion
    log: gr.HTML
    actions: gr.HTML
    lists: Lists
    renamed: gr.State
    """Changes when a run gets another name or star, which other tabs show too."""

    @property
    def inputs(self) -> list:
        """Inputs of `show`."""
        return [self.open_run, self.picked]

    @property
    def outputs(self) -> list:
        """Outputs of `show`. The open run is one of them: it becomes the newest if it is gone, so that each button acts on the run that is shown."""
        buttons = [self.try_it, self.now, self.stop, self.resume]
        lists = [self.lists.queue, self.lists.listing, self.lists.removed]
        above = [self.title, self.head, self.help_first, *buttons, self.file]
        return [*above, self.sample_grid, self.loss, self.log_fold, self.log, self.actions, *lists, self.open_run]

    @property
    def listing(self) -> gr.HTML:
        return self.lists.listing

    @property
    def is_local(self) -> bool:
        """Whether the page is on the studio's own computer: only then it shows paths."""
        return self.studio.access.mode is Mode.local

    def read_log(self, run: Run) -> str:
        """The end of the run's log, which contains paths."""
        return run_view.log(self.studio.home.logs / f"{run.id}.log") if self.is_local else ""

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
        opened = gr.skip() if not run_id or (run and run.id == run_id) else None
        if run is None:
            hidden = gr.update(visible=False)
            return "", NO_RUN, "", hidden, hidden, hidden, hidden, "", "", "", hidden, "", "", "", "", removed.listing(workspace, "runs"), opened
        jobs, runs = run_state.newest_jobs(self.studio, owner), Run.all(workspace)
        now = run_state.condition(run, jobs.get(run.id))
        log = self.read_log(run)
        return (
            run_view.title(run, now),
            run_view.head(run, now),
            run_view.help_first(run, now),
            gr.update(visible=bool(run.adapters()), variant="secondary" if now.can_resume else "primary"),
            gr.update(visible=now.state in ("running", "paused") and now.step > 0 and bool(run.config.samples.prompts)),
            gr.update(visible=now.state in run_state.BUSY, value="Remove from the queue" if now.state == "waiting" else "Stop"),
            gr.update(
                visible=now.can_resume,
                value="Start" if now.state == "created" else "Try again" if run_view.lacks_base(run, now) else "Resume",
                variant="secondary" if now.retries or run_view.lacks_base(run, now) else "primary",
            ),
            run_view.file(run, self.is_local),
            run_view.sample_grid(run, now),
            run_view.loss(now),
            gr.update(visible=bool(log)),
            log,
            run_view.actions(run, now),
            run_list.waiting(self.studio, owner),
            run_list.listing(runs, jobs, run.id, {each.id for each in runs} & set(picked)),
            removed.listing(workspace, "runs"),
            opened,
        )


def find_run(workspace: Workspace, run_id: str | None) -> Run | None:
    """The run to show: the one with this id, or the newest."""
    runs = Run.all(workspace)
    return next((run for run in runs if run.id == run_id), runs[0] if runs else None)


def shown_run(workspace: Workspace, run_id: str | None) -> Run:
    """The run that a button acts on; None stands for the newest. StudioError where there is none, and for one that was removed meanwhile, on another
    page or there: never another run in its place."""
    run = find_run(workspace, run_id)
    if run is None:
        raise StudioError("There is no run. Start a training first.")
    if run_id and run.id != run_id:
        raise StudioError("This run no longer exists. Choose one from the list, or restore it under Removed.")
    return run


def build_run(studio: Studio, tabs: gr.Tabs, job_changes: gr.State, requested: gr.State, open_run: gr.State) -> RunView:
    """`requested` receives the LoRAs to load in Generate."""
    picked = gr.State([])
    with gr.Column(elem_classes="pane", elem_id="run"):
        title = panel("", ("rename", "star"), elem_id="run-title")
        head = html(NO_RUN, elem_id="run-head")
        help_first = panel("", ("retry", "copy"), elem_id="run-help")
        with gr.Row(elem_classes="toolbar"):
            try_it = gr.Button("Try it", variant="primary", visible=False, size="md", min_width=110, scale=0, elem_id="try-it")
            now = gr.Button("Generate now", visible=False, size="md", min_width=130, scale=0, elem_id="generate-now")
            stop = gr.Button("Stop", visible=False, size="md", min_width=90, scale=0, elem_id="stop-run")
            resume = gr.Button("Resume", visible=False, size="md", min_width=110, scale=0, elem_id="resume-run")
        shown = panel("", (), elem_id="generated-now")
        file = panel("", ("show_folder",), elem_id="run-file")
        sample_grid = panel("", ("use", "star_step"), elem_id="sample-grid")
        loss = html("", elem_id="loss")
        with gr.Accordion("Log", open=False, visible=False, elem_classes="fold", elem_id="run-log") as log_fold:
            log = html("")
        actions = panel("", ("extend", "copy", "start_from", "resume_automatically"), elem_id="run-actions")
    above, below = (title, head, help_first, try_it, stop, resume, now, file), (sample_grid, loss, log_fold, log, actions)
    view = RunView(studio, open_run, picked, *above, *below, build_lists(studio), gr.State(None))
    for changed in (open_run, job_changes):
        changed.change(view.show, view.inputs, view.outputs, **QUIET)
    _wire_now(view, job_changes, shown)
    _wire_marks(view)
    _wire_state(view)
    _wire_actions(view)
    _wire_try(view, tabs, requested)
    view.lists.wire(view.show, view.inputs, view.outputs)
    return view


def _wire_now(view: RunView, job_changes: gr.State, shown: gr.HTML) -> None:
    """An image of the training at its current step, which the training process generates between two steps."""
    studio, requested = view.studio, gr.State(None)

    @show_errors
    def generate_now(run_id: str | None, request: gr.Request) -> tuple:
        run, owner = shown_run(studio.workspace(request), run_id), studio.owner(request)
        [job] = generation.submit(studio, owner, [run_view.recipe_now(run)], 1)
        return (run.id, job.id), run_view.sample_now(run, job)

    @show_errors
    def show_now(requested: list | tuple | None, run_id: str | None, request: gr.Request) -> str:
        """The image that was requested for the run that is shown; empty for another run."""
        run = find_run(studio.workspace(request), run_id)
        if run is None or not requested or requested[0] != run.id:
            return ""
        return run_view.sample_now(run, studio.jobs.get(int(requested[1]), studio.owner(request)))

    view.now.click(generate_now, view.open_run, [requested, shown], **QUIET)
    for changed in (view.open_run, job_changes):
        changed.change(show_now, [requested, view.open_run], shown, **QUIET)


def _wire_marks(view: RunView) -> None:
    """Name, stars, and the file of the run."""
    studio = view.studio

    @show_errors
    def rename(run_id: str | None, picked: list[str], request: gr.Request, event: gr.EventData) -> tuple:
        """Of the run whose name was edited, even if another is shown by now."""
        Run.open(studio.workspace(request), event.run).rename(str(event.value))
        return *view.show(run_id, picked, request), time.time()

    @show_errors
    def star(run_id: str | None, picked: list[str], request: gr.Request, event: gr.EventData) -> tuple:
        shown_run(studio.workspace(request), run_id).star(event.starred == "yes")
        return *view.show(run_id, picked, request), time.time()

    @show_errors
    def star_step(run_id: str | None, picked: list[str], request: gr.Request, event: gr.EventData) -> tuple:
        run = shown_run(studio.workspace(request), run_id)
        if str(event.step).isdigit() and run.adapter_at(int(event.step)).exists():
            run.star_step(int(event.step), event.starred == "yes")
        return view.show(run_id, picked, request)

    @show_errors
    def show_folder(run_id: str | None, request: gr.Request) -> str:
        run = shown_run(studio.workspace(request), run_id)
        latest = run.latest_adapter()
        if not view.is_local or latest is None:
            return gr.skip()
        try:
            platform.show_in_folder(latest)
        except OSError as error:
            return run_view.file(run, view.is_local, f"The folder cannot be opened: {error.strerror}. Copy the path instead.")
        return run_view.file(run, view.is_local)

    view.title.rename(rename, view.inputs, [*view.outputs, view.renamed], **QUIET)
    view.title.star(star, view.inputs, [*view.outputs, view.renamed], **QUIET)
    view.sample_grid.star_step(star_step, view.inputs, view.outputs, **QUIET)
    view.file.show_folder(show_folder, view.open_run, view.file, **QUIET)


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

    @show_errors
    def resume_automatically(run_id: str | None, picked: list[str], request: gr.Request, event: gr.EventData) -> tuple:
        shown_run(studio.workspace(request), run_id).resume_automatically(event.resumes == "yes")
        return view.show(run_id, picked, request)

    view.actions.resume_automatically(resume_automatically, view.inputs, view.outputs, **QUIET)
    view.actions.extend(extend, view.inputs, view.outputs, **QUIET)
    view.help_first.retry(retry, view.open_run, view.open_run, **QUIET)


def _wire_try(view: RunView, tabs: gr.Tabs, requested: gr.State) -> None:
    @show_errors
    def try_run(run_id: str | None, request: gr.Request) -> tuple:
        run = shown_run(view.studio.workspace(request), run_id)
        return StackRequest((f"run:{run.id}",), alone=True), gr.Tabs(selected="generate")

    def try_checkpoint(event: gr.EventData) -> tuple:
        return StackRequest((event.ref,), alone=True), gr.Tabs(selected="generate")

    view.try_it.click(try_run, view.open_run, [requested, tabs], **QUIET)
    view.sample_grid.use(try_checkpoint, None, [requested, tabs], **QUIET)
