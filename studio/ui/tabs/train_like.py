"""The form filled from a run: with its settings, or so that training goes on from its LoRA."""

import gradio as gr

from studio.config import fields
from studio.core.workspace import Workspace
from studio.datasets.dataset import Dataset
from studio.runs.run import Run
from studio.ui.components.html import notice
from studio.ui.components.run_state import column
from studio.ui.studio import QUIET, Studio, show_errors
from studio.ui.tabs.train_run import RunView, opened
from studio.ui.tabs.train_sheet import Sheet, datasets


def fill_from_runs(studio: Studio, view: RunView, open_run: gr.State, chosen: gr.State, sheet: Sheet) -> None:
    """Wires the two buttons of the run that is shown; `chosen` is the dataset in work."""

    def fill(workspace: Workspace, run: Run, dataset_id: str | None, changes: dict, words: str):
        known = [each for _, each in datasets(workspace)]
        if not known:
            return {chosen: None, **sheet.open(workspace, None)}
        dataset = Dataset.open(workspace, dataset_id if dataset_id in known else known[0])
        return {chosen: dataset.id, **sheet.fill(workspace, dataset, None, fields.replace(run.requested, changes), notice(words, "good"))}

    @show_errors
    def copy(run_id, dataset_id, request: gr.Request):
        workspace = studio.workspace(request)
        run = opened(workspace, run_id)
        own, there = run.snapshot["dataset"], {dataset.id for dataset in Dataset.all(workspace)}
        words = f"Filled in from {run.title}."
        if own not in there:
            words += " Its pictures are not here any more, so others are chosen."
        return fill(workspace, run, own if own in there else dataset_id, {}, words)

    @show_errors
    def begin(run_id, dataset_id, request: gr.Request):
        """The pictures stay those that are chosen: going on with others is what this is for."""
        workspace = studio.workspace(request)
        run = opened(workspace, run_id)
        step = run.adapters()[-1][0]
        words = (
            f"Goes on learning from {run.title}, {column(step)}, with its settings. Another goal or other pictures fill the form anew, without it."
        )
        return fill(workspace, run, dataset_id, {"lora.start_from": f"run:{run.id}@{step}"}, words)

    filled = [chosen, *sheet.filling]
    for event, handler in ((view.more.copy, copy), (view.more.begin, begin)):
        event(handler, [open_run, sheet.pictures], filled, **QUIET)
