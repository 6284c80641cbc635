"""Parameter sweep: one or two settings with several values each become as many runs in the queue."""

import time
from collections.abc import Callable
from dataclasses import dataclass, replace

import gradio as gr

from studio import config as configs
from studio.config import TrainConfig, fields
from studio.core.errors import StudioError
from studio.core.wording import counted
from studio.core.workspace import Workspace
from studio.datasets.dataset import Dataset
from studio.jobs.launch import TrainingRequest
from studio.runs import sweeps
from studio.runs.creation import automatic_name
from studio.runs.sweeps import is_sweepable
from studio.ui.components import estimate
from studio.ui.components.html import duration, html, notice
from studio.ui.components.templates import render
from studio.ui.studio import QUIET, Studio
from studio.ui.tabs.train_form import WATCH

FIRST, ALPHA = "lora.rank", "lora.alpha"
NONE = "(one setting only)"
SKIPPED = ("model", "saving")
"""Sections that are not worth comparing within a sweep."""
START = "Queue these runs"


def choices() -> list[tuple[str, str]]:
    """(title, path) of every setting that a sweep may vary."""
    known = [leaf for leaf in fields.leaves(TrainConfig()) if is_sweepable(leaf) and leaf.path.partition(".")[0] not in SKIPPED]
    return [(leaf.title, leaf.path) for leaf in known if leaf.path not in ("dataset.subject", "dataset.repeats")]


def plan(dataset: Dataset, config: TrainConfig, name: str, alpha_ratio: float | None, varied: list[tuple[str, str]]) -> list[TrainingRequest]:
    """The runs of these (path, values) pairs, each with a whole validated config; StudioError when a value does not fit. Without a name each
    run gets an automatic one. Alpha follows each run's rank by `alpha_ratio`; None: it was typed and is kept."""
    settings = [f"{path}={values}" for path, values in varied if path and values.strip()]
    if not settings:
        return []
    varies_alpha = any(path == ALPHA for path, _ in varied)
    if alpha_ratio is None and not varies_alpha:
        settings.append(f"{ALPHA}={config.lora.alpha}")
    values = config.model_dump(mode="json")
    made = [
        TrainingRequest(configs.build(values, *each.settings), each.named(name) if name else "", "" if name else each.note)
        for each in sweeps.combinations(settings)
    ]
    if alpha_ratio in (None, 1) or varies_alpha:
        return made
    return [replace(each, config=fields.replace(each.config, {ALPHA: each.config.lora.rank * alpha_ratio})) for each in made]


def summarize(workspace: Workspace, dataset: Dataset, requests: list[TrainingRequest]) -> str:
    """Number of runs, total time where it is known, and the titles."""
    paces = [estimate.seconds_per_step(workspace, each.config) for each in requests]
    known = [pace * each.config.training.max_train_steps for pace, each in zip(paces, requests) if pace]
    total = f"about {duration(sum(known))} in all" if len(known) == len(requests) else "time shown after the first steps"
    titles = [each.title or automatic_name(dataset.title, each.config, time.time(), each.note) for each in requests]
    return render("train", "sweep", f"{counted(len(requests), 'run')}, {total}", titles)


@dataclass(frozen=True)
class Sweep:
    studio: Studio
    first: gr.Dropdown
    first_values: gr.Textbox
    second: gr.Dropdown
    second_values: gr.Textbox
    total: gr.HTML
    start: gr.Button
    message: gr.HTML

    def wire(self, read: Callable, inputs: list, changes: list, watch: list) -> None:
        """To be called once the form is built. `read(workspace, dataset_id, values)` returns (dataset, config, alpha / rank or None if alpha was
        typed); `inputs` are the dataset, the run name, and the values for `read`; `changes` are events after which the summary is updated;
        `watch` are the open run and the places of the tab."""
        varied = [self.first, self.first_values, self.second, self.second_values]

        def requests(request: gr.Request, values: tuple) -> tuple[Dataset, list[TrainingRequest]]:
            (first, firsts, second, seconds), (dataset_id, name, *form) = values[:4], values[4:]
            dataset, config, alpha_ratio = read(self.studio.workspace(request), dataset_id, form)
            return dataset, plan(dataset, config, (name or "").strip(), alpha_ratio, [(first, firsts or ""), (second, seconds or "")])

        def update_total(request: gr.Request, *values: str | None) -> tuple:
            if not (values[1] or "").strip():
                return "", gr.update(interactive=False, value=START)
            try:
                dataset, planned = requests(request, values)
            except StudioError as error:
                return notice(str(error), "bad"), gr.update(interactive=False, value=START)
            button = gr.update(interactive=True, value=f"Queue {counted(len(planned), 'run')}")
            return summarize(self.studio.workspace(request), dataset, planned), button

        def start_all(request: gr.Request, *values: str | None) -> tuple:
            """Queue all runs, or none with an error."""
            try:
                dataset, planned = requests(request, values)
                started = self.studio.train(self.studio.owner(request), dataset, planned)
            except StudioError as error:
                return gr.skip(), gr.skip(), notice(str(error), "bad")
            return started[0][0].id, gr.Tabs(selected=WATCH), notice(f"{counted(len(started), 'run')} queued. They are listed under Queue.", "good")

        inputs = [*varied, *inputs]
        events = [*(each.change for each in varied), *changes]
        gr.on(events, update_total, inputs, [self.total, self.start], **QUIET)
        self.second.change(lambda path: gr.update(visible=bool(path)), self.second, self.second_values, **QUIET)
        self.start.click(start_all, inputs, [*watch, self.message], **QUIET)


def build_sweep(studio: Studio) -> Sweep:
    known = choices()
    with gr.Accordion("Try several values", open=False, elem_classes="fold", elem_id="sweep"):
        with gr.Row(elem_classes="numbers"):
            first = gr.Dropdown(known, value=FIRST, label="Setting", min_width=150, elem_id="sweep-setting")
            first_values = gr.Textbox(label="Values", placeholder="8, 16, 32", max_lines=1, min_width=130, elem_id="sweep-values")
        with gr.Row(elem_classes="numbers"):
            second = gr.Dropdown([(NONE, ""), *known], value="", label="Second setting", min_width=150, elem_id="sweep-setting-2")
            second_values = gr.Textbox(label="Values", max_lines=1, min_width=130, visible=False, elem_id="sweep-values-2")
        total = html("")
        start = gr.Button(START, interactive=False, elem_id="sweep-start")
        message = html("")
    return Sweep(studio, first, first_values, second, second_values, total, start, message)
