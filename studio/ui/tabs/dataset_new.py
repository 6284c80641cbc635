"""Choose a dataset, create one, or copy the sample images. The consent of a real person is asked for here, before the first upload."""

from collections.abc import Callable
from dataclasses import dataclass

import gradio as gr

from studio import builtin
from studio.core.errors import StudioError
from studio.core.workspace import Workspace
from studio.datasets.dataset import Dataset
from studio.ui import files
from studio.ui.components.html import html, notice, panel
from studio.ui.components.removed import build_removed, listing
from studio.ui.components.templates import render
from studio.ui.form_drafts import DraftedForm
from studio.ui.studio import QUIET, Studio, show_errors
from studio.ui.tabs.dataset_choice import choices, choose

SUBJECTS = [("A style", "style"), ("A character or person", "character"), ("A product, object or outfit", "object")]
SAMPLES = {
    "style": ("Ink style", "a drawing style that the built-in model cannot produce"),
    "character": ("Little character", "a character that the built-in model has never seen"),
}
CONSENT = "This person agreed that I may train on these images and share the result."


@dataclass(frozen=True)
class NewDataset:
    """For the page: `load(dataset id, request)` gives the values of `opened`; `drafted` are the fields that the browser keeps as drafts."""

    load: Callable
    opened: list
    removed: gr.HTML
    """Removed datasets, to be placed at the end of the tab."""
    drafted: DraftedForm


@dataclass(frozen=True)
class SampleSet:
    """A set of sample images as its card shows it; `thumbs` are URLs."""

    name: str
    title: str
    description: str
    count: int
    thumbs: list[str]


@dataclass(frozen=True)
class Parts:
    """Components of the picker and the form."""

    picker: gr.Dropdown
    new: gr.Button
    remove: gr.Button
    undo: gr.Button
    form: gr.Row
    title: gr.Textbox
    subject: gr.Radio
    person: gr.Checkbox
    consent: gr.Checkbox
    create: gr.Button
    message: gr.HTML
    samples: gr.HTML
    removed: gr.HTML


def sample_cards() -> str:
    """A card per sample set; a click makes a dataset of it."""
    sets = []
    for name, (title, description) in SAMPLES.items():
        images = sorted(builtin.SAMPLES[name].glob("*.png"))
        sets.append(SampleSet(name, title, description, len(images), [files.shipped_url(image) for image in images[:4]]))
    return render("dataset", "samples", sets)


def build_new(studio: Studio, chosen: gr.State) -> NewDataset:
    parts = _build_parts(studio)
    opened = [chosen, parts.picker, parts.new, parts.remove, parts.form, parts.message, parts.removed]
    parts.person.change(lambda real: gr.update(visible=real, value=False), parts.person, parts.consent, **QUIET)
    parts.picker.input(lambda each: each, parts.picker, chosen, **QUIET)
    chosen.change(lambda each: each, chosen, parts.picker, **QUIET)
    parts.new.click(lambda: gr.update(visible=True), None, parts.form, **QUIET)
    _wire_creation(studio, parts, opened)
    _wire_removal(studio, parts, chosen, opened)

    def load(dataset_id: str | None, request: gr.Request) -> tuple:
        return show(studio.workspace(request), dataset_id)

    drafted = DraftedForm("new-dataset", {"title": parts.title, "subject": parts.subject, "person": parts.person})
    return NewDataset(load, opened, parts.removed, drafted)


def _build_parts(studio: Studio) -> Parts:
    with gr.Row(elem_classes="toolbar"):
        picker = gr.Dropdown(
            [], label="Dataset", show_label=False, container=False, visible=False, min_width=220, scale=0, elem_id="dataset-picker", filterable=False
        )
        new = gr.Button("New dataset", size="md", scale=0, min_width=160, visible=False, elem_id="new-dataset")
        remove = gr.Button("Remove dataset", size="md", scale=0, min_width=160, visible=False)
        undo = gr.Button("Undo", size="md", scale=0, min_width=90, visible=False)
    # Hidden until the page knows whether there are datasets: hiding it later would discard what the user had begun to fill in.
    with gr.Row(visible=False, elem_classes="workbench", elem_id="dataset-new") as form:
        with gr.Column(elem_classes="pane", scale=5, min_width=300):
            title = gr.Textbox(label="Name", placeholder="My ink drawings", max_length=80)
            subject = gr.Radio(SUBJECTS, value="style", label="Subject")
            person = gr.Checkbox(False, label="The images show a real person")
            consent = gr.Checkbox(False, label=CONSENT, visible=False)
            create = gr.Button("Create dataset", variant="primary", elem_id="create-dataset")
            message = html("")
        with gr.Column(scale=6, min_width=300):
            samples = panel(sample_cards(), ("use_samples",), elem_id="samples")
    removed = build_removed(studio, "datasets")
    return Parts(picker, new, remove, undo, form, title, subject, person, consent, create, message, samples, removed)


def show(workspace: Workspace, dataset_id: str | None) -> tuple:
    """Values of `opened` for this dataset, or for the newest if it does not exist."""
    known = choices(workspace)
    dataset_id = choose(known, dataset_id)
    has_datasets = bool(known)
    return (
        dataset_id,
        gr.update(choices=known, value=dataset_id, visible=has_datasets),
        gr.update(visible=has_datasets),
        gr.update(visible=has_datasets),
        gr.update(visible=not has_datasets),
        "",
        listing(workspace, "datasets"),
    )


def _wire_creation(studio: Studio, parts: Parts, opened: list) -> None:
    def create(title: str, subject: str, person: bool, consent: bool, request: gr.Request) -> tuple:
        workspace = studio.workspace(request)
        try:
            dataset = Dataset.create(workspace, title, subject, person, CONSENT if consent else "")
        except StudioError as error:
            return *[gr.skip()] * 5, notice(str(error), "bad"), gr.skip()
        return show(workspace, dataset.id)

    @show_errors
    def copy_samples(request: gr.Request, event: gr.EventData) -> tuple:
        workspace = studio.workspace(request)
        return show(workspace, Dataset.from_samples(workspace, str(event.sample)).id)

    inputs = [parts.title, parts.subject, parts.person, parts.consent]
    parts.create.click(create, inputs, opened, **QUIET)
    parts.title.submit(create, inputs, opened, **QUIET)
    parts.samples.use_samples(copy_samples, None, opened, **QUIET)


def _wire_removal(studio: Studio, parts: Parts, chosen: gr.State, opened: list) -> None:
    last = gr.State(None)

    @show_errors
    def remove_dataset(dataset_id: str, request: gr.Request) -> tuple:
        workspace = studio.workspace(request)
        name = Dataset.open(workspace, dataset_id).title
        trashed = workspace.remove(workspace.dataset_path(dataset_id))
        return *show(workspace, None), trashed, gr.update(visible=True, value=f"Restore {name}")

    @show_errors
    def restore_last(trashed: str, request: gr.Request) -> tuple:
        workspace = studio.workspace(request)
        return *show(workspace, workspace.restore(trashed).name), None, gr.update(visible=False)

    @show_errors
    def restore(request: gr.Request, event: gr.EventData) -> tuple:
        return restore_last(event.id, request)

    outputs = [*opened, last, parts.undo]
    parts.remove.click(remove_dataset, chosen, outputs, **QUIET)
    parts.undo.click(restore_last, last, outputs, **QUIET)
    parts.removed.restore(restore, None, outputs, **QUIET)
