"""Try several values: a setting and what it should be, once or twice over, become as many runs in the queue."""

from collections.abc import Callable
from dataclasses import dataclass

import gradio as gr

from studio import config as configs
from studio.config import TrainConfig, fields
from studio.core.errors import StudioError
from studio.core.workspace import Workspace
from studio.datasets.dataset import Dataset
from studio.jobs.launch import TrainingRequest
from studio.runs import sweeps
from studio.runs.sweeps import is_sweepable
from studio.ui.components import estimate
from studio.ui.components.html import counted, duration, html, notice
from studio.ui.components.templates import render
from studio.ui.studio import QUIET, Studio

FIRST = "lora.rank"
NONE = "(one setting only)"
SKIPPED = ("model", "saving")
"""Sections whose settings tell nothing when tried beside each other."""


@dataclass(frozen=True)
class Sweep:
    """`wire(read, inputs, changes, open_run)` once the whole form is there: `read` makes (dataset, config) of the form's values, `inputs` are
    the dataset, the name, alpha / rank (None: set by hand), and what `read` takes; `changes` are events after which the sum is done again."""

    wire: Callable


def choices() -> list[tuple[str, str]]:
    """(title, path) of every setting that may be tried with several values."""
    known = [leaf for leaf in fields.leaves(TrainConfig()) if is_sweepable(leaf) and leaf.path.partition(".")[0] not in SKIPPED]
    return [(leaf.title, leaf.path) for leaf in known if leaf.path not in ("dataset.subject",)]


def plan(dataset: Dataset, config: TrainConfig, name: str, keep_alpha: bool, tried: list[tuple[str, str]]) -> list[TrainingRequest]:
    """The runs that these values make, each a whole config that was checked; StudioError when one is not what its setting may be."""
    settings = [f"{path}={values}" for path, values in tried if path and values.strip()]
    if not settings:
        return []
    if keep_alpha and not any(setting.startswith("lora.alpha") for setting in settings):
        settings.append(f"lora.alpha={config.lora.alpha}")
    values = config.model_dump(mode="json")
    title = name or dataset.title
    return [TrainingRequest(configs.build(values, *each.settings), each.named(title)) for each in sweeps.combinations(settings)]


def told(workspace: Workspace, wanted: list[TrainingRequest]) -> str:
    """How many runs, how long in all as far as it is known, and what they will be called."""
    paces = [estimate.seconds_a_step(workspace, each.config) for each in wanted]
    seconds = sum(pace * each.config.training.max_train_steps for pace, each in zip(paces, wanted)) if all(paces) else None
    time = f"about {duration(seconds)} in all" if seconds else "time shown after the first steps"
    return render("train", "sweep", f"{counted(len(wanted), 'run')}, {time}", [each.title for each in wanted])


def build_sweep(studio: Studio) -> Sweep:
    known = choices()
    with gr.Accordion("Try several values", open=False, elem_classes="fold", elem_id="sweep"):
        with gr.Row(elem_classes="numbers"):
            first = gr.Dropdown(known, value=FIRST, label="Setting", min_width=150, elem_id="sweep-setting")
            first_values = gr.Textbox(label="Values", placeholder="8, 16, 32", max_lines=1, min_width=130, elem_id="sweep-values")
        with gr.Row(elem_classes="numbers"):
            second = gr.Dropdown([(NONE, ""), *known], value="", label="And with each of them", min_width=150, elem_id="sweep-setting-2")
            second_values = gr.Textbox(label="Values", max_lines=1, min_width=130, visible=False, elem_id="sweep-values-2")
        total = html("")
        begin = gr.Button("Queue these runs", interactive=False, elem_id="sweep-start")
        said = html("")

    def wire(read: Callable, inputs: list, changes: list, open_run: gr.State) -> None:
        tried = [first, first_values, second, second_values]

        def planned(request: gr.Request, values: tuple) -> tuple[Dataset, list[TrainingRequest]]:
            (one, ones, two, twos), (dataset_id, name, follows, *form) = values[:4], values[4:]
            dataset, config = read(studio.workspace(request), dataset_id, form)
            return dataset, plan(dataset, config, (name or "").strip(), follows != 1, [(one, ones or ""), (two, twos or "")])

        def sum_up(request: gr.Request, *values):
            if not (values[1] or "").strip():
                return "", gr.update(interactive=False, value="Queue these runs")
            try:
                _, wanted = planned(request, values)
            except StudioError as error:
                return notice(str(error), "bad"), gr.update(interactive=False, value="Queue these runs")
            return told(studio.workspace(request), wanted), gr.update(interactive=True, value=f"Queue {counted(len(wanted), 'run')}")

        def begin_all(request: gr.Request, *values):
            """All of them, or with a sentence none."""
            try:
                dataset, wanted = planned(request, values)
                begun = studio.train(studio.owner(request), dataset, wanted)
            except StudioError as error:
                return gr.skip(), notice(str(error), "bad")
            return begun[0][0].id, notice(f"{counted(len(begun), 'run')} queued; they stand under Waiting.", "good")

        summed = [total, begin]
        gr.on([*(each.change for each in tried), *changes], sum_up, [*tried, *inputs], summed, trigger_mode="always_last", **QUIET)
        second.change(lambda path: gr.update(visible=bool(path)), second, second_values, **QUIET)
        begin.click(begin_all, [*tried, *inputs], [open_run, said], **QUIET)

    return Sweep(wire)
