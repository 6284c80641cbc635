"""Training: what learns, from which pictures, how long; then the run as it goes, on this or any other tab."""

import json
from collections.abc import Callable
from dataclasses import dataclass

import gradio as gr

from studio import config as configs
from studio import families
from studio.config import TrainConfig
from studio.dataset import Dataset
from studio.errors import StudioError
from studio.ui import estimate
from studio.ui.form import Form
from studio.ui.html import counted, lead, notice, term, text
from studio.ui.studio import QUIET, Studio
from studio.ui.tabs.train_run import RunView, build_run
from studio.workspace import Workspace

TITLE = "Train"

STEPS = term("steps", "One step: the model looks at a picture or a few, guesses, and is nudged towards the right answer.")
RANK = term("rank", "How many numbers the LoRA has for each layer: how much it can remember.")
BASE = term("base model", "The picture model that everything starts from. It stays as it is; the LoRA is a small file on top of it.")
PRESET = term("preset", "Settings that worked before for the same purpose. You may change each of them.")
LEAD = f"Pick pictures, a {BASE} and a goal ({PRESET}), then press Start training. The numbers are filled in; {RANK} and {STEPS} matter most."
RANKS = [4, 8, 16, 32, 64, 128]
SAMPLE_HELP = (
    "One line each: a prompt with the trigger word, the same without it, and a scene that no picture shows. They become the rows of the film."
)
NO_PICTURES = "No pictures yet. Make a dataset under Pictures & captions, or take the sample pictures there."


@dataclass(frozen=True)
class Train:
    """For the frame: `arrive` on load and `look_again` when the tab is opened fill `filling`; `view` is the run that is shown."""

    arrive: Callable
    look_again: Callable
    filling: list
    filled_for: gr.State
    view: RunView


def datasets(workspace: Workspace) -> list[tuple[str, str]]:
    return [(f"{d.title} ({counted(len(d.pictures), 'picture')})", d.id) for d in Dataset.all(workspace) if d.pictures]


def build(studio: Studio, rooms: gr.Tabs, chosen: gr.State, beat: gr.State, wanted: gr.State, open_run: gr.State):
    """`chosen` is the dataset in work on every tab, `open_run` the run that is shown, `beat` changes when a training moves."""
    presets = configs.presets()
    form = Form(TrainConfig())
    form.leave("model.family", "dataset.id", "dataset.subject", "dataset.trigger_word")
    touched = gr.State(False)
    filled_for = gr.State(None)

    gr.HTML(lead("Teach it", LEAD))
    with gr.Row(elem_classes="bench"):
        with gr.Column(elem_classes="pane", scale=5, min_width=320):
            none_yet = gr.HTML(notice(NO_PICTURES))
            to_pictures = gr.Button("Go to Pictures & captions", size="md", variant="primary")
            with gr.Column(visible=False, elem_classes="bare") as settings:
                pictures = gr.Dropdown([], label="Pictures", elem_id="train-dataset", filterable=False)
                preset = gr.Dropdown([(p.title, p.name) for p in presets], value=None, label="Goal (preset)", elem_id="preset", filterable=False)
                about = gr.HTML("")
                base = form.place(
                    "model.base_model",
                    gr.Dropdown,
                    allow_custom_value=True,
                    choices=[(o.title, o.id) for f in families.FAMILIES for o in f.offers],
                    info="The model that learns. Also a Hub id (owner/name), or a folder or .safetensors file on this computer.",
                    elem_id="base",
                )
                rank = form.place("lora.rank", gr.Radio, choices=RANKS, elem_id="rank", elem_classes="ranks")
                with gr.Row(elem_classes="numbers"):
                    alpha = form.place("lora.alpha", min_width=130, info="Follows the rank until you change it.")
                    steps = form.place(
                        "training.max_train_steps", min_width=130, elem_id="steps", info="More comes closer to your pictures, too many copy them."
                    )
                    form.place("training.learning_rate", min_width=130, info="Higher learns faster and breaks sooner.")
                size = gr.HTML("", elem_id="estimate")
                start = gr.Button("Start training", variant="primary", size="lg", elem_id="start-training")
                said = gr.HTML("", elem_id="train-said")
                with gr.Accordion("Sample prompts", open=False, elem_classes="fold"):
                    form.place("samples.prompts", lines=3, info=SAMPLE_HELP, elem_id="sample-prompts")
                with gr.Accordion("More settings", open=False, elem_classes="fold"):
                    name = gr.Textbox(label="Name of this run", placeholder="as the dataset", max_length=80)
                    form.place_rest()
        with gr.Column(scale=7, min_width=320):
            view = build_run(studio, rooms, beat, wanted, open_run, start)

    def open_settings(workspace: Workspace, dataset_id: str | None, preset_name: str | None = None, base_model: str = ""):
        """Everything the form shows for this dataset and preset; a base that a person chose stays theirs."""
        known = datasets(workspace)
        ids = [each for _, each in known]
        dataset_id = dataset_id if dataset_id in ids else ids[0] if ids else None
        if dataset_id is None:
            return [
                gr.update(visible=True),
                gr.update(visible=True),
                gr.update(visible=False),
                gr.update(choices=[], value=None),
                None,
                "",
                "",
                False,
                None,
                *[gr.skip()] * len(form.inputs),
            ]
        dataset = Dataset.open(workspace, dataset_id)
        preset_name = preset_name or configs.fitting_preset(dataset.subject, base_model)
        own = [f"model.base_model={json.dumps(base_model)}"] if base_model else []
        config = configs.for_dataset(dataset, preset_name or "", *own)
        return [
            gr.update(visible=False),
            gr.update(visible=False),
            gr.update(visible=True),
            gr.update(choices=known, value=dataset_id),
            preset_name,
            describe(preset_name, dataset, config.model.base_model),
            estimated(workspace, config),
            False,
            (dataset.id, dataset.trigger_word),
            *form.write(config),
        ]

    filling = [none_yet, to_pictures, settings, pictures, preset, about, size, touched, filled_for, *form.inputs]

    def arrive(dataset_id, request: gr.Request):
        return open_settings(studio.workspace(request), dataset_id)

    def look_again(dataset_id, filled_for, request: gr.Request):
        """When the tab is opened: new pictures or another trigger word fill the form again; else what was typed stays."""
        workspace = studio.workspace(request)
        known = datasets(workspace)
        wanted = dataset_id if dataset_id in [each for _, each in known] else known[0][1] if known else None
        if wanted and filled_for == (wanted, Dataset.open(workspace, wanted).trigger_word):
            return [gr.update(choices=known) if component is pictures else gr.skip() for component in filling]
        return open_settings(workspace, wanted)

    def take_preset(dataset_id, preset_name, request: gr.Request):
        return open_settings(studio.workspace(request), dataset_id, preset_name)

    def take_base(dataset_id, preset_name, base_model, request: gr.Request):
        """Numbers that fit one base ruin another, so a base of another size brings its own; between two of a size what was typed stays."""
        workspace = studio.workspace(request)
        dataset, base_model = Dataset.open(workspace, dataset_id), (base_model or "").strip()
        if configs.fitting_preset(dataset.subject, base_model) == preset_name:
            about_it = describe(preset_name, dataset, base_model)
            return [about_it if component is about else gr.skip() for component in filling]
        return open_settings(workspace, dataset_id, None, base_model)

    chosen.change(arrive, chosen, filling, **QUIET)
    pictures.input(lambda dataset_id: dataset_id, pictures, chosen, **QUIET)
    preset.input(take_preset, [pictures, preset], filling, **QUIET)
    base.input(take_base, [pictures, preset, base], filling, **QUIET)
    to_pictures.click(lambda: gr.Tabs(selected="dataset"), None, rooms, **QUIET)

    rank.input(lambda rank, touched: gr.skip() if touched else rank, [rank, touched], alpha, **QUIET)
    alpha.input(lambda: True, None, touched, **QUIET)

    def sum_up(request: gr.Request, *values):
        try:
            return estimated(studio.workspace(request), form.read(list(values)))
        except StudioError as error:
            return notice(str(error), "bad")

    gr.on([rank.change, steps.change, base.change], sum_up, form.inputs, size, **QUIET)

    def begin(dataset_id, name, request: gr.Request, *values):
        """Check, write the run down, queue it. From here on it needs neither this tab nor this server."""
        try:
            owner = studio.owner(request)
            dataset = Dataset.open(studio.home.workspace(owner), dataset_id)
            about = {"dataset__id": dataset.id, "dataset__subject": dataset.subject, "dataset__trigger_word": dataset.trigger_word}
            run, _ = studio.train(owner, form.read(list(values), **about), dataset, (name or "").strip())
        except StudioError as error:
            return gr.skip(), notice(str(error), "bad")
        return run.id, ""

    start.click(begin, [pictures, name, *form.inputs], [open_run, said], **QUIET)
    return Train(arrive, look_again, filling, filled_for, view)


def describe(preset_name: str | None, dataset: Dataset, base_model: str) -> str:
    """What the goal is for and where its numbers come from; and what will not work as expected."""
    preset = next((p for p in configs.presets() if p.name == preset_name), None)
    words = f'<div class="small">{text(preset.description)} Its numbers are {text(preset.measured)}.</div>' if preset else ""
    if not dataset.trigger_word:
        words += notice(
            "This dataset has no trigger word. It learns all the same, but nothing calls the LoRA by name; set one under Pictures & captions.", "warn"
        )
    known = families.offer(base_model)
    if known and known.shapes_only and any(picture.looks_like_photo for picture in dataset.pictures):
        words += notice(
            f"These look like photographs, and {known.name} draws simple shapes only. Choose another base, such as Stable Diffusion 1.5.", "warn"
        )
    return words


def estimated(workspace: Workspace, config: TrainConfig) -> str:
    return f'<div class="estimate">{text(estimate.sentence(workspace, config))}</div>'
