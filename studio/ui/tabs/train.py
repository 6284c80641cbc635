"""The Train tab: two places. Set up has dataset, base, preset and settings; Watch has the run."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import gradio as gr

from studio import config as configs
from studio.config import TrainConfig
from studio.core.errors import StudioError
from studio.core.workspace import Workspace
from studio.datasets.dataset import Dataset
from studio.jobs.launch import TrainingRequest
from studio.ui.components import bases
from studio.ui.components.form import Form
from studio.ui.components.html import TURN, html, notice, panel
from studio.ui.components.templates import render
from studio.ui.form_drafts import DraftedForm
from studio.ui.studio import QUIET, Studio
from studio.ui.tabs import train_presets
from studio.ui.tabs.compare_runs import build_compare
from studio.ui.tabs.train_cards import SetupCards, place_cards, wire_cards
from studio.ui.tabs.train_choices import wire_choices
from studio.ui.tabs.train_estimate import wire_estimate
from studio.ui.tabs.train_form import ALPHA, NOT_OPENED, SET_UP, STEPS_HELP, WATCH, Filled, TrainForm
from studio.ui.tabs.train_from_run import fill_from_runs
from studio.ui.tabs.train_presets import PresetStore
from studio.ui.tabs.train_run import RunView, build_run
from studio.ui.tabs.train_sweep import Sweep, build_sweep

TITLE = "Train"

RANK_HELP = "How much the LoRA can learn; too high overfits. 8 to 32 suits most datasets."
RANKS = [4, 8, 16, 32, 64, 128]
SAMPLE_HELP = "A prompt per line: one with the trigger word, the same without it, and a scene that no image shows. Each is a row of the sample grid."
MEMORY_HELP = "Adjusts the settings so that the base fits a GPU of this size. Automatic goes by the memory that is free."
NO_DATASET = "No dataset yet. Drop images under Images & captions, or use the sample images there."


@dataclass(frozen=True)
class Train:
    """For the page: `form.open` on page load and `refresh` (with `refresh_inputs`) when the tab is opened set `outputs`; `run` is the run shown,
    `drafted` the fields that the browser keeps as drafts. `places` are the two places of the tab."""

    form: TrainForm
    drafted: DraftedForm
    refresh: Callable
    refresh_inputs: list
    outputs: list
    run: RunView
    places: gr.Tabs
    cards: dict[str, Any]
    """Arguments of the event that shows dataset, bases and goals as cards."""


@dataclass(frozen=True)
class FormColumn:
    """The form with what stands beside it in its column."""

    form: TrainForm
    cards: SetupCards
    rank: gr.components.Component
    name: gr.Textbox
    about_memory: gr.HTML
    start: gr.Button
    message: gr.HTML
    sweep: Sweep
    presets: PresetStore


def build(studio: Studio, tabs: gr.Tabs, chosen: gr.State, job_changes: gr.State, requested: gr.State, open_run: gr.State) -> Train:
    """`chosen` is the dataset that is open on every tab, `open_run` the run that is shown, `requested` the LoRAs to load in Generate;
    `job_changes` changes when a training makes progress."""
    with gr.Tabs(elem_classes="places", elem_id="train-places") as places:
        with gr.Tab("Set up", id=SET_UP):
            html(render("train", "head"))
            column = _build_form(studio)
        with gr.Tab("Watch", id=WATCH):
            html(render("train", "watch_head"), elem_classes="unseen")
            with gr.Column() as workbench:
                run = build_run(studio, tabs, job_changes, requested, open_run)
            build_compare(studio, workbench, run.listing, run.picked)
    form = column.form
    refresh, refresh_inputs = wire_choices(studio, form, column.about_memory, chosen, column.cards)
    cards = wire_cards(studio, form, column.cards)
    form.to_dataset.click(lambda: gr.Tabs(selected="dataset"), None, tabs, **QUIET)
    wire_estimate(studio, form, column.rank)
    _wire_start(studio, column, open_run, places)
    _wire_sweep(column, open_run, places)
    fill_from_runs(studio, run, open_run, chosen, form)
    train_presets.wire(studio, column.presets, form)

    for fills_form in (run.actions.copy, run.actions.start_from):
        fills_form(lambda: gr.Tabs(selected=SET_UP), None, places, **QUIET)
    sweep = column.sweep
    varied = {"first": sweep.first, "first-values": sweep.first_values, "second": sweep.second, "second-values": sweep.second_values}
    drafted = DraftedForm("train", {"preset": form.preset, "memory": form.memory, "name": column.name, **varied, **form.form.widgets})
    return Train(form, drafted, refresh, refresh_inputs, form.outputs, run, places, cards)


def _build_form(studio: Studio) -> FormColumn:
    form = Form(TrainConfig())
    # Repeats only change runs of an older engine.
    form.exclude("model.family", "dataset.id", "dataset.subject", "dataset.trigger_word", "dataset.repeats")
    no_dataset = html(notice(NO_DATASET))
    to_dataset = gr.Button("Go to Images & captions", size="md", variant="primary")
    with gr.Column(visible=False, elem_classes="bare setup") as settings:
        with gr.Row(elem_classes="workbench"):
            with gr.Column(elem_classes="pane", min_width=320):
                datasets = place_cards("dataset")
                dataset = gr.Dropdown([], label="Another dataset", elem_id="train-dataset", filterable=False)
                base_cards = place_cards("base")
                _place_base(form, studio)
            with gr.Column(elem_classes="pane", min_width=320):
                goals = place_cards("goal")
                preset = gr.Dropdown([], label="Another preset", elem_id="preset", filterable=False)
                about = html("")
                rank = _place_settings(form)
        with gr.Column(elem_classes="pane"):
            name, memory, about_memory = _place_drawer(form)
            sweep = build_sweep(studio)
            presets = train_presets.build_presets(studio)
        with gr.Column(elem_id="start-bar", elem_classes="startbar"):
            kept = panel("", ("use_preset",), elem_id="kept")
            message = html("", elem_id="train-message")
            errors = panel("", elem_id="setting-errors")
            with gr.Row(elem_classes="costs"):
                costs = html("", elem_id="costs", elem_classes=TURN)
                start = gr.Button("Start training", variant="primary", size="lg", scale=0, min_width=170, elem_id="start-training")
            estimate = html("", elem_id="estimate")
    parts = (no_dataset, to_dataset, settings, dataset, preset, about, kept, costs, estimate, errors, start, memory, presets.remove, presets.removed)
    train_form = TrainForm(studio.home, form, *parts, gr.Textbox(NOT_OPENED, label="Filled with", elem_classes="hidden-field", elem_id="filled-with"))
    return FormColumn(train_form, SetupCards(datasets, base_cards, goals), rank, name, about_memory, start, message, sweep, presets)


def _place_drawer(form: Form[TrainConfig]) -> tuple[gr.Textbox, gr.Dropdown, gr.HTML]:
    """Every other setting, with a search field; returns run name, GPU memory and its description."""
    with gr.Accordion("All settings", open=False, elem_classes="fold", elem_id="all-settings"):
        html(render("train", "search"))
        with gr.Row(elem_classes="settings"):
            name = gr.Textbox(
                label="Run name", placeholder="automatic: dataset, rank, steps and date", max_length=80, min_width=230, elem_id="run-name"
            )
            sizes = [("Automatic", ""), *((overlay.title, overlay.name) for overlay in configs.overlays())]
            memory = gr.Dropdown(sizes, value="", label="GPU memory", info=MEMORY_HELP, elem_id="memory", filterable=False, min_width=230)
        about_memory = html("")
        form.place_rest()
    return name, memory, about_memory


def _place_base(form: Form[TrainConfig], studio: Studio) -> None:
    base = form.place(
        "model.base_model",
        gr.Dropdown,
        allow_custom_value=True,
        choices=bases.choices(),
        label="Another base",
        info="One of the list, a Hub id (owner/name), or a folder or .safetensors file on this computer.",
        elem_id="base",
    )
    bases.add_base_details(base, studio, training=True)


def _place_settings(form: Form[TrainConfig]) -> gr.components.Component:
    """The settings that matter most; returns the widget of the rank."""
    rank = form.place("lora.rank", gr.Radio, choices=RANKS, info=RANK_HELP, elem_id="rank", elem_classes="ranks")
    with gr.Row(elem_classes="numbers"):
        form.place("training.max_train_steps", min_width=130, elem_id="steps", info=STEPS_HELP)
        form.place("training.learning_rate", min_width=130, info="Higher trains faster and becomes unstable sooner.")
    with gr.Row(elem_classes="numbers"):
        form.place("lora.alpha", min_width=110, elem_id="alpha", info="Empty: follows the rank.")
        form.place("dataset.resolution", min_width=110, info="Higher: finer detail, more memory.")
        form.place("training.train_batch_size", min_width=110, info="Higher: steadier, more memory.")
    form.place("samples.prompts", lines=3, info=SAMPLE_HELP, elem_id="sample-prompts")
    return rank


def _wire_start(studio: Studio, column: FormColumn, open_run: gr.State, places: gr.Tabs) -> None:
    form = column.form

    def start(dataset_id: str, name: str | None, request: gr.Request, filled_with: str | None, *values: Any) -> tuple:
        """Validate the settings, create the run and queue it. From then on it depends on neither this tab nor this server."""
        try:
            owner = studio.owner(request)
            dataset = Dataset.open(studio.home.workspace(owner), dataset_id)
            config = form.read(Filled.read(filled_with), values, dataset)
            run, _ = studio.train(owner, dataset, [TrainingRequest(config, (name or "").strip())])[0]
        except StudioError as error:
            return gr.skip(), notice(str(error), "bad"), gr.skip()
        return run.id, "", gr.Tabs(selected=WATCH)

    column.start.click(start, [form.dataset, column.name, *form.inputs], [open_run, column.message, places], **QUIET)


def _wire_sweep(column: FormColumn, open_run: gr.State, places: gr.Tabs) -> None:
    form = column.form

    def read(workspace: Workspace, dataset_id: str, values: list) -> tuple[Dataset, TrainConfig, float | None]:
        """The chosen dataset, the settings as the form shows them, and alpha / rank; `values` are those of `form.inputs`."""
        dataset = Dataset.open(workspace, dataset_id)
        filled, rest = Filled.read(values[0]), values[1:]
        typed = form.form.by_path(rest)[ALPHA] is not None
        return dataset, form.read(filled, rest, dataset), None if typed or not filled else filled.alpha_ratio

    changes = [column.rank.change, form.steps.change, form.base.change]
    column.sweep.wire(read, [form.dataset, column.name, *form.inputs], changes, [open_run, places])
