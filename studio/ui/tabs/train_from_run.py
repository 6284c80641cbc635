"""Fill the Train form from a run: with its settings, or to start from its LoRA."""

import gradio as gr

from studio.config import fields
from studio.core.workspace import Workspace
from studio.datasets.dataset import Dataset
from studio.runs.run import Run
from studio.ui.components.html import notice
from studio.ui.components.run_state import step_label
from studio.ui.studio import QUIET, Studio, show_errors
from studio.ui.tabs.dataset_choice import choose, trainable_choices
from studio.ui.tabs.train_form import TrainForm
from studio.ui.tabs.train_run import RunView, shown_run


def fill_from_runs(studio: Studio, view: RunView, open_run: gr.State, chosen: gr.State, form: TrainForm) -> None:
    """Wire the two buttons of the run that is shown; `chosen` is the open dataset."""

    def fill(workspace: Workspace, run: Run, dataset_id: str | None, changes: dict, message: str) -> dict:
        opened = choose(trainable_choices(workspace), dataset_id)
        if not opened:
            return {chosen: None, **form.open(workspace, None)}
        dataset = Dataset.open(workspace, opened)
        return {chosen: dataset.id, **form.fill(workspace, dataset, None, fields.replace(run.requested, changes), notice(message, "good"))}

    @show_errors
    def copy_settings(run_id: str | None, dataset_id: str | None, request: gr.Request) -> dict:
        workspace = studio.workspace(request)
        run = shown_run(workspace, run_id)
        own, known = run.snapshot["dataset"], {dataset.id for dataset in Dataset.all(workspace)}
        message = f"Settings of {run.title}."
        if own not in known:
            message += " Its dataset no longer exists, so another is chosen."
        return fill(workspace, run, own if own in known else dataset_id, {}, message)

    @show_errors
    def start_from(run_id: str | None, dataset_id: str | None, request: gr.Request) -> dict:
        """The chosen dataset is kept, so that training can continue on another one."""
        workspace = studio.workspace(request)
        run = shown_run(workspace, run_id)
        step = run.adapters()[-1][0]
        message = f"Starts from the LoRA of {run.title}, {step_label(step)}, with its settings. Choosing another preset or dataset resets this."
        return fill(workspace, run, dataset_id, {"lora.start_from": f"run:{run.id}@{step}"}, message)

    outputs = [chosen, *form.outputs]
    for panel in (view.help_first, view.actions):
        panel.copy(copy_settings, [open_run, form.dataset], outputs, **QUIET)
    view.actions.start_from(start_from, [open_run, form.dataset], outputs, **QUIET)
