"""The form filled from a run: with its settings, or so that training goes on from its LoRA."""

from collections.abc import Callable
from dataclasses import dataclass

import gradio as gr

from studio.config import TrainConfig, fields
from studio.dataset import Dataset
from studio.runs import Run
from studio.ui.html import notice
from studio.ui.runs_view import column
from studio.ui.studio import QUIET, Studio, in_words
from studio.ui.tabs.train_run import RunView, opened
from studio.workspace import Workspace


@dataclass(frozen=True)
class Like:
    """Settings that are no preset's, and what the form says about where they come from."""

    config: TrainConfig
    words: str


def fill_from_runs(
    studio: Studio, view: RunView, open_run: gr.State, pictures: gr.Dropdown, chosen: gr.State, open_settings: Callable, filling: list
) -> None:
    """Wires the two buttons of the run that is shown. `open_settings` fills `filling`, `chosen` is the dataset in work."""

    def fill(workspace: Workspace, run: Run, dataset_id: str | None, changes: dict, words: str):
        config = fields.replace(run.asked, changes)
        return dataset_id, *open_settings(workspace, dataset_id, like=Like(config, notice(words, "good")))

    @in_words
    def copy(run_id, dataset_id, request: gr.Request):
        workspace = studio.workspace(request)
        run = opened(workspace, run_id)
        own, there = run.snapshot["dataset"], {dataset.id for dataset in Dataset.all(workspace)}
        words = f"Filled in from {run.title}."
        if own not in there:
            words += " Its pictures are not here any more, so others are chosen."
        return fill(workspace, run, own if own in there else dataset_id, {}, words)

    @in_words
    def begin(run_id, dataset_id, request: gr.Request):
        """The pictures stay those that are chosen: going on with others is what this is for."""
        workspace = studio.workspace(request)
        run = opened(workspace, run_id)
        step = run.adapters()[-1][0]
        words = (
            f"Goes on learning from {run.title}, {column(step)}, with its settings. Another goal or other pictures fill the form anew, without it."
        )
        return fill(workspace, run, dataset_id, {"lora.start_from": f"run:{run.id}@{step}"}, words)

    filled = [chosen, *filling]
    into_view = {"js": "() => document.querySelector('#train-dataset')?.scrollIntoView({block: 'center', behavior: 'smooth'})"}
    for event, handler in ((view.more.copy, copy), (view.more.begin, begin)):
        event(handler, [open_run, pictures], filled, **QUIET).then(None, None, None, **into_view)
