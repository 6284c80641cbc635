"""Choosing a dataset, making a new one, or taking the sample pictures; consent is asked for here, before the first upload."""

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
from studio.ui.studio import QUIET, Studio, show_errors

SUBJECTS = [("A style", "style"), ("A character or person", "character"), ("A product, object or outfit", "object")]
SAMPLES = {
    "style": ("Ink style", "a way of drawing that the built-in model cannot do"),
    "character": ("Little character", "somebody the built-in model has never seen"),
}
CONSENT = "This person agreed that I may train on these pictures and share the result."


@dataclass(frozen=True)
class New:
    """For the frame: call `arrive` with `chosen` on page load, into `opened`."""

    arrive: Callable
    opened: list
    removed: gr.HTML
    """Removed datasets, to be placed at the end of the tab."""


@dataclass(frozen=True)
class Samples:
    """A set of sample pictures as its card shows it."""

    name: str
    title: str
    what: str
    pictures: int
    faces: list[str]


def choices(workspace: Workspace) -> list[tuple[str, str]]:
    """(title, id), newest first."""
    return [(d.title, d.id) for d in Dataset.all(workspace)]


def sample_cards() -> str:
    """One card a sample set, one click away from a dataset."""
    shown = []
    for name, (title, what) in SAMPLES.items():
        pictures = sorted(builtin.SAMPLES[name].glob("*.png"))
        shown.append(Samples(name, title, what, len(pictures), [files.shipped_url(picture) for picture in pictures[:4]]))
    return render("dataset", "samples", shown)


def build_new(studio: Studio, chosen: gr.State) -> New:
    with gr.Row(elem_classes="toolbar"):
        picker = gr.Dropdown(
            [], label="Dataset", show_label=False, container=False, visible=False, min_width=220, scale=0, elem_id="dataset-picker", filterable=False
        )
        another = gr.Button("New dataset", size="md", scale=0, min_width=160, visible=False, elem_id="new-dataset")
        bin_it = gr.Button("Remove dataset", size="md", scale=0, min_width=130, visible=False)
        back = gr.Button("Undo", size="md", scale=0, min_width=90, visible=False)
    # Hidden until the page knows whether there are datasets: a form that went away again would take with it what somebody had begun to fill in.
    with gr.Row(visible=False, elem_classes="workbench", elem_id="dataset-new") as form:
        with gr.Column(elem_classes="pane", scale=5, min_width=300):
            title = gr.Textbox(label="Name", placeholder="My ink drawings", max_length=80)
            subject = gr.Radio(SUBJECTS, value="style", label="It should learn")
            person = gr.Checkbox(False, label="The pictures show a real person")
            consent = gr.Checkbox(False, label=CONSENT, visible=False)
            create = gr.Button("Create dataset", variant="primary")
            said = html("")
        with gr.Column(scale=6, min_width=300):
            samples = panel(sample_cards(), ("take",), elem_id="samples")

    last = gr.State(None)
    person.change(lambda real: gr.update(visible=real, value=False), person, consent, **QUIET)
    gone = build_removed(studio, "datasets")
    opened = [chosen, picker, another, bin_it, form, said, gone]

    def show(workspace: Workspace, dataset_id: str | None, words: str = ""):
        known = choices(workspace)
        if dataset_id not in [each for _, each in known]:
            dataset_id = known[0][1] if known else None
        some = bool(known)
        return (
            dataset_id,
            gr.update(choices=known, value=dataset_id, visible=some),
            gr.update(visible=some),
            gr.update(visible=some),
            gr.update(visible=not some),
            words,
            listing(workspace, "datasets"),
        )

    def make(title, subject, person, consent, request: gr.Request):
        workspace = studio.workspace(request)
        try:
            dataset = Dataset.create(workspace, title, subject, person, CONSENT if consent else "")
        except StudioError as error:
            return *[gr.skip()] * 5, notice(str(error), "bad"), gr.skip()
        return show(workspace, dataset.id)

    @show_errors
    def take(request: gr.Request, event: gr.EventData):
        workspace = studio.workspace(request)
        return show(workspace, Dataset.from_samples(workspace, str(event.sample)).id)

    @show_errors
    def throw_away(dataset_id, request: gr.Request):
        workspace = studio.workspace(request)
        name = Dataset.open(workspace, dataset_id).title
        trashed = workspace.remove(workspace.dataset_path(dataset_id))
        return *show(workspace, None), trashed, gr.update(visible=True, value=f"Put {name} back")

    @show_errors
    def put_back(trashed, request: gr.Request):
        workspace = studio.workspace(request)
        return *show(workspace, workspace.restore(trashed).name), None, gr.update(visible=False)

    @show_errors
    def put_this_back(request: gr.Request, event: gr.EventData):
        return put_back(event.id, request)

    create.click(make, [title, subject, person, consent], opened, **QUIET)
    title.submit(make, [title, subject, person, consent], opened, **QUIET)
    samples.take(take, None, opened, **QUIET)
    bin_it.click(throw_away, chosen, [*opened, last, back], **QUIET)
    back.click(put_back, last, [*opened, last, back], **QUIET)
    gone.restore(put_this_back, None, [*opened, last, back], **QUIET)
    picker.input(lambda each: each, picker, chosen, **QUIET)
    chosen.change(lambda each: each, chosen, picker, **QUIET)
    another.click(lambda: gr.update(visible=True), None, form, **QUIET)

    def arrive(dataset_id, request: gr.Request):
        return show(studio.workspace(request), dataset_id)

    return New(arrive, opened, gone)
