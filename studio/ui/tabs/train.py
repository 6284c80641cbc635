"""Training: what learns, from which pictures, how long; then the run as it goes, on this or any other tab."""

from collections.abc import Callable
from dataclasses import dataclass

import gradio as gr

from studio import config as configs
from studio import families
from studio.config import TrainConfig, fields, memory_overlays, shipped_presets
from studio.core.errors import StudioError
from studio.core.workspace import Workspace
from studio.datasets.dataset import Dataset
from studio.jobs import estimates
from studio.jobs.launch import TrainingRequest
from studio.runs import starting_points
from studio.ui.components import bases
from studio.ui.components.form import Form
from studio.ui.components.html import html, notice
from studio.ui.components.templates import render
from studio.ui.studio import QUIET, Studio
from studio.ui.tabs import train_presets
from studio.ui.tabs.compare_runs import build_compare
from studio.ui.tabs.train_like import fill_from_runs
from studio.ui.tabs.train_run import RunView, build_run
from studio.ui.tabs.train_sheet import STEPS_HELP, Sheet, datasets, estimated, introduce, of_base, warn
from studio.ui.tabs.train_sweep import build_sweep

TITLE = "Train"

RANK_HELP = "How much it can remember; too much copies the pictures. 8 to 32 suits most."
RANKS = [4, 8, 16, 32, 64, 128]
SAMPLE_HELP = (
    "One line each: a prompt with the trigger word, the same without it, and a scene that no picture shows. They become the rows of the film."
)
MEMORY_HELP = "Changes what makes a base fit a card of this size. Without it the studio chooses from the memory that is free."
NO_PICTURES = "No pictures yet. Make a dataset under Pictures & captions, or take the sample pictures there."


@dataclass(frozen=True)
class Train:
    """For the frame: `arrive` on load and `look_again` (which looks at `looking`) when the tab is opened fill `filling`; `view` is the run shown."""

    arrive: Callable
    look_again: Callable
    looking: list
    filling: list
    view: RunView


def build(studio: Studio, rooms: gr.Tabs, chosen: gr.State, beat: gr.State, wanted: gr.State, open_run: gr.State):
    """`chosen` is the dataset in work on every tab, `open_run` the run that is shown, `beat` changes when a training moves."""
    form = Form(TrainConfig())
    form.leave("model.family", "dataset.id", "dataset.subject", "dataset.trigger_word")

    html(render("train", "head"))
    with gr.Row(elem_classes="workbench") as bench:
        with gr.Column(elem_classes="pane", scale=5, min_width=320):
            none_yet = html(notice(NO_PICTURES))
            to_pictures = gr.Button("Go to Pictures & captions", size="md", variant="primary")
            with gr.Column(visible=False, elem_classes="bare") as settings:
                pictures = gr.Dropdown([], label="Pictures", elem_id="train-dataset", filterable=False)
                base = form.place(
                    "model.base_model",
                    gr.Dropdown,
                    allow_custom_value=True,
                    choices=bases.choices(),
                    info="The model that learns. Also a Hub id (owner/name), or a folder or .safetensors file on this computer.",
                    elem_id="base",
                )
                bases.add_base_details(base, studio, training=True)
                goal = gr.Dropdown([], label="Goal (preset)", elem_id="preset", filterable=False)
                about = html("")
                rank = form.place("lora.rank", gr.Radio, choices=RANKS, info=RANK_HELP, elem_id="rank", elem_classes="ranks")
                with gr.Row(elem_classes="numbers"):
                    steps = form.place("training.max_train_steps", min_width=130, elem_id="steps", info=STEPS_HELP)
                    form.place("training.learning_rate", min_width=130, info="Higher learns faster and breaks sooner.")
                with gr.Row(elem_classes="numbers"):
                    alpha = form.place("lora.alpha", min_width=110, info="Follows the rank until you change it.")
                    form.place("dataset.resolution", min_width=110, info="Larger is finer, takes more memory.")
                    batch = form.place("training.train_batch_size", min_width=110, info="More is steadier, takes more memory.")
                form.place("samples.prompts", lines=3, info=SAMPLE_HELP, elem_id="sample-prompts")
                size = html("", elem_id="estimate")
                start = gr.Button("Start training", variant="primary", size="lg", elem_id="start-training")
                said = html("", elem_id="train-said")
                sweep = build_sweep(studio)
                with gr.Accordion("More settings", open=False, elem_classes="fold"):
                    name = gr.Textbox(label="Name of this run", placeholder="as the dataset", max_length=80)
                    sizes = [("What is free", ""), *((overlay.title, overlay.name) for overlay in configs.overlays())]
                    card = gr.Dropdown(sizes, value="", label="Memory of the graphics card", info=MEMORY_HELP, elem_id="memory", filterable=False)
                    about_card = html("")
                    form.place_rest()
                keeping = train_presets.build_keeping(studio)
        with gr.Column(scale=7, min_width=320):
            view = build_run(studio, rooms, beat, wanted, open_run, start)
    build_compare(studio, bench, view.listing, view.picked)

    states = {name: gr.State(None) for name in ("follows", "filled_for", "numbers_for", "suggestion", "family")}
    parts = {"none_yet": none_yet, "to_pictures": to_pictures, "settings": settings, "pictures": pictures, "goal": goal, "about": about}
    sheet = Sheet(form=form, **parts, size=size, card=card, remove=keeping.remove, gone=keeping.gone, **states)

    def arrive(dataset_id, request: gr.Request):
        return sheet.open(studio.workspace(request), dataset_id)

    def look_again(dataset_id, filled_for, steps_now, proposed, goal_name, base_model, card_name, request: gr.Request):
        """When the tab is opened, or other pictures are chosen anywhere: other ones, or another trigger word, fill the form again; else what was
        typed stays, and only what came meanwhile is offered: more pictures, and runs to take settings from."""
        workspace = studio.workspace(request)
        known = datasets(workspace)
        ids = [each for _, each in known]
        wanted = dataset_id if dataset_id in ids else next(iter(ids), None)
        dataset = Dataset.open(workspace, wanted) if wanted else None
        if not dataset or not filled_for or tuple(filled_for)[:2] != (wanted, dataset.trigger_word):
            return sheet.open(workspace, wanted, card=card_name)
        goals = starting_points.list_choices(workspace, dataset.subject, base_model or "")
        changed = {pictures: gr.update(choices=known), goal: gr.update(choices=goals)}
        if len(dataset.images) != filled_for[2] and goal_name and steps_now == proposed:
            again = starting_points.build_config(workspace, dataset, goal_name).training.max_train_steps
            changed |= sheet.propose(dataset, again, again)
            changed[sheet.filled_for] = (wanted, dataset.trigger_word, len(dataset.images))
        return changed

    looking = [chosen, sheet.filled_for, steps, sheet.suggestion, goal, base, card]

    def take_goal(dataset_id, goal_name, card_name, request: gr.Request):
        try:
            return sheet.open(studio.workspace(request), dataset_id, goal_name, card=card_name)
        except StudioError as error:
            # A run that is gone, or a preset that cannot be read and may be removed.
            return {about: notice(str(error), "bad"), sheet.remove: gr.update(visible=goal_name.startswith(starting_points.MINE))}

    def take_base(dataset_id, numbers_for, base_model, card_name, request: gr.Request):
        """Numbers that fit one base ruin another, so a base of another size brings its own; between two of a size what was typed stays."""
        workspace = studio.workspace(request)
        dataset, base_model = Dataset.open(workspace, dataset_id), (base_model or "").strip()
        if configs.fitting_preset(dataset.subject, base_model) != numbers_for:
            return sheet.open(workspace, dataset_id, None, base_model, card_name)
        known = families.detect(base_model)
        # A version that was written down belongs to the other base.
        changed = {about: introduce(shipped_presets.get(numbers_for)) + warn(dataset, base_model), form.widgets["model.revision"]: ""}
        return changed | {sheet.family: known.name if known else ""}

    chosen.change(look_again, looking, sheet.filling, **QUIET)
    pictures.input(lambda dataset_id: dataset_id, pictures, chosen, **QUIET)
    goal.input(take_goal, [pictures, goal, card], sheet.filling, **QUIET)
    base.input(take_base, [pictures, sheet.numbers_for, base, card], sheet.filling, **QUIET)
    to_pictures.click(lambda: gr.Tabs(selected="dataset"), None, rooms, **QUIET)

    rank.input(lambda rank, scale: gr.skip() if scale is None else rank * scale, [rank, sheet.follows], alpha, **QUIET)
    alpha.input(lambda: None, None, sheet.follows, **QUIET)

    def take_card(dataset_id, goal_name, card_name, family, base_model, request: gr.Request, *values):
        """What a card of this size needs, and what the goal says where it needs nothing; all else stays as it was typed."""
        try:
            if goal_name:
                workspace = studio.workspace(request)
                config = starting_points.build_config(
                    workspace, Dataset.open(workspace, dataset_id), goal_name, *of_base(base_model), memory=card_name
                )
            else:
                config = memory_overlays.fit(sheet.read(family, base_model, values), card_name)
        except StudioError as error:
            return {about_card: notice(str(error), "bad")}
        owned = {form.widgets[path]: form.shown(path, fields.get(config, path)) for path in memory_overlays.OWNED}
        return {about_card: notice(memory_overlays.get(card_name).description) if card_name else "", **owned}

    card.input(take_card, [pictures, goal, card, *sheet.seen], [about_card, *form.inputs], **QUIET)

    def suggest(dataset_id, goal_name, steps_now, proposed, family, base_model, request: gr.Request, *values):
        """More pictures in a step need fewer steps; a number that a person typed stays."""
        if not goal_name or proposed is None or steps_now != proposed:
            return {sheet.suggestion: gr.skip()}
        workspace = studio.workspace(request)
        dataset = Dataset.open(workspace, dataset_id)
        try:
            config = sheet.read(family, base_model, values, dataset)
        except StudioError:
            # Half a number: the field itself says so at Start.
            return {sheet.suggestion: gr.skip()}
        again = configs.suggested_steps(config, len(dataset.images), starting_points.find(workspace, goal_name).pace)
        return sheet.propose(dataset, again, again)

    at_once = (batch, form.widgets["training.gradient_accumulation_steps"], form.widgets["validation.pictures"])
    told = [pictures, goal, steps, sheet.suggestion, *sheet.seen]
    gr.on([widget.input for widget in at_once], suggest, told, [steps, sheet.suggestion], **QUIET)

    def sum_up(family, base_model, request: gr.Request, *values):
        try:
            config = sheet.read(family, base_model, values)
            return estimated(studio.workspace(request), config, estimates.load_estimate(studio.home, config))
        except StudioError as error:
            return notice(str(error), "bad")

    async def count(family, base_model, request: gr.Request, *values):
        """Have a child count what nobody has counted yet for this base and size: it needs torch, which this process never loads."""
        try:
            config = sheet.read(family, base_model, values)
            offer = families.offer(config.model.base_model)
            if (offer and offer.shipped) or estimates.load_estimate(studio.home, config) or not estimates.can_estimate(config):
                return gr.skip()
            await studio.wait_for(studio.start_estimate(studio.owner(request), config))
            return estimated(studio.workspace(request), config, estimates.load_estimate(studio.home, config))
        except StudioError:
            # Half a number, which the field itself says; or a visitor with all the jobs that fit.
            return gr.skip()

    changes = [rank.change, steps.change, base.change]
    gr.on(changes, sum_up, sheet.seen, size, **QUIET)
    gr.on(changes, count, sheet.seen, size, trigger_mode="always_last", **QUIET)

    def begin(dataset_id, name, family, base_model, request: gr.Request, *values):
        """Check, write the run down, queue it. From here on it needs neither this tab nor this server."""
        try:
            owner = studio.owner(request)
            dataset = Dataset.open(studio.home.workspace(owner), dataset_id)
            run, _ = studio.train(owner, dataset, [TrainingRequest(sheet.read(family, base_model, values, dataset), (name or "").strip())])[0]
        except StudioError as error:
            return gr.skip(), notice(str(error), "bad")
        return run.id, ""

    start.click(begin, [pictures, name, *sheet.seen], [open_run, said], **QUIET)

    def read(workspace: Workspace, dataset_id: str, seen: list) -> tuple[Dataset, TrainConfig]:
        """The pictures that are chosen and the settings as the form shows them."""
        dataset = Dataset.open(workspace, dataset_id)
        return dataset, sheet.read(seen[0], seen[1], tuple(seen[2:]), dataset)

    sweep.wire(read, [pictures, name, sheet.follows, *sheet.seen], [rank.change, steps.change, base.change], open_run)
    fill_from_runs(studio, view, open_run, chosen, sheet)
    train_presets.wire(studio, keeping, sheet)
    return Train(arrive, look_again, looking, sheet.filling, view)
