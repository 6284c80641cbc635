"""Editor of the open dataset: toolbar, trigger word, captioner and the grid of images; what they show, not what they do."""

from collections.abc import Sequence
from dataclasses import dataclass

import gradio as gr

from studio.core.errors import StudioError
from studio.core.workspace import Workspace
from studio.datasets import captioners, trigger_words
from studio.datasets.dataset import Dataset
from studio.jobs.queue import Job
from studio.ui import files
from studio.ui.components import caption_grid, job_bar, mask_view
from studio.ui.components.html import heading, html, notice, panel, small
from studio.ui.components.templates import render
from studio.ui.studio import Studio, show_errors
from studio.ui.tabs.dataset_caption_functions import CAPTION_EVENTS, caption_functions

SUBJECTS = [("A style", "style"), ("A character or person", "character"), ("A product, object or outfit", "object")]
CONSENT = "This person agreed that I may train on these images and share the result."
NOUN_HELP = "A caption such as “a dog in the snow” becomes “{word} in the snow” with “dog” here, so that the LoRA learns which dog. Optional."
TRIGGER_HELP = "A rare word that activates the LoRA in a prompt, such as ohwx, sks or TOK: letters without a meaning of their own."
CAPTIONER_HELP = (
    "The model that writes the captions. For your own images use BLIP or Florence-2, downloaded once from the Hub; "
    "the built-in one knows only images like the samples."
)


@dataclass(frozen=True)
class Editor:
    """Components of the editor. `chosen` holds the id of the open dataset."""

    studio: Studio
    chosen: gr.State
    column: gr.Column
    add: gr.HTML
    summary: gr.HTML
    undo: gr.Button
    export: gr.HTML
    train: gr.Button
    about: gr.Row
    title: gr.Textbox
    title_base: gr.State
    """The name that the page shows or has stored: only another one is an edit."""
    subject: gr.Radio
    person: gr.Checkbox
    consent: gr.Checkbox
    captioning: gr.Row
    word: gr.Textbox
    word_base: gr.State
    """The stored trigger word that the page shows: an edit of another one is a conflict."""
    word_note: gr.HTML
    suggest: gr.Button
    captioner: gr.Dropdown
    noun: gr.Textbox
    only_empty: gr.Checkbox
    write: gr.Button
    message: gr.HTML
    progress: gr.HTML
    grid: gr.HTML

    @property
    def refreshed(self) -> list:
        """Outputs of `refresh`."""
        return [
            self.column,
            self.summary,
            self.grid,
            self.progress,
            self.export,
            self.undo,
            self.add,
            self.train,
            self.write,
            self.about,
            self.captioning,
        ]

    @property
    def shown(self) -> list:
        """Outputs of `show`."""
        about = [self.title, self.subject, self.person, self.consent]
        return [*self.refreshed, *about, self.word, self.word_base, self.word_note, self.noun, self.title_base]

    @show_errors
    def show(self, dataset_id: str | None, request: gr.Request) -> tuple:
        """Values of `shown`."""
        dataset = open_dataset(self.studio.workspace(request), dataset_id)
        if dataset is None:
            return gr.update(visible=False), "", "", "", "", *[gr.skip()] * 9, gr.update(visible=False), "", None, "", gr.skip(), None
        has_images = bool(dataset.images)
        link = render("dataset", "export", files.url("dataset", dataset.id)) if has_images else ""
        word = dataset.trigger_word
        return (
            gr.update(visible=True),
            header(dataset),
            caption_grid.grid(dataset),
            progress(self.studio, self.studio.owner(request), dataset),
            link,
            undo_button(dataset),
            render("dataset", "add_images", dataset.id, not has_images),
            *next_step(dataset),
            gr.update(visible=has_images),
            gr.update(visible=has_images),
            dataset.title,
            dataset.subject,
            dataset.real_person,
            consent_box(dataset),
            word,
            word,
            explain_word(word),
            noun_box(dataset),
            dataset.title,
        )

    def refresh(self, dataset_id: str | None, request: gr.Request) -> tuple:
        """Values of `refreshed`: name and trigger word are left out, because the user may be typing them."""
        return self.show(dataset_id, request)[: len(self.refreshed)]

    def refresh_if(self, needed: bool, dataset_id: str | None, request: gr.Request) -> tuple:
        """The same, or values that change nothing."""
        return self.refresh(dataset_id, request) if needed else (gr.skip(),) * len(self.refreshed)


def build_editor(studio: Studio, chosen: gr.State) -> Editor:
    with gr.Column(visible=False, elem_id="dataset-work") as column:
        toolbar = _build_toolbar()
        with gr.Row(elem_classes="pane") as about:
            facts = _build_about()
        with gr.Row(elem_classes="pane") as captioning:
            fields = _build_captioning()
        message = panel("", ("undo_captions", "use_captioner"), elem_id="dataset-message")
        progress = panel("", ("stop",), elem_id="dataset-progress")
        grid = panel("", ("remove_image", *CAPTION_EVENTS, *mask_view.EVENTS), server_functions=caption_functions(studio), elem_id="captions")
    shown = {"message": message, "progress": progress, "grid": grid}
    return Editor(studio, chosen, column, **toolbar, about=about, **facts, captioning=captioning, **fields, **shown)


def _build_toolbar() -> dict:
    with gr.Row(elem_classes="toolbar"):
        return {
            "add": panel("", ("import_images",), elem_id="add-images"),
            "summary": panel("", ("put_trigger",), elem_id="dataset-summary"),
            "undo": gr.Button("Undo", size="md", visible=False, scale=0, min_width=90),
            "export": html("", elem_id="export", min_width=100),
            "train": gr.Button("Train with this dataset", variant="primary", scale=0, min_width=230),
        }


def _build_about() -> dict:
    title = gr.Textbox(label="Name", max_length=80, scale=3, min_width=200, elem_id="dataset-title")
    subject = gr.Radio(SUBJECTS, label="Subject", scale=5, min_width=280, elem_id="dataset-subject")
    with gr.Column(scale=4, min_width=240):
        person = gr.Checkbox(False, label="The images show a real person", elem_id="real-person")
        consent = gr.Checkbox(False, label=CONSENT, info="Needed before training and publishing.", visible=False, elem_id="consent")
    return {"title": title, "title_base": gr.State(None), "subject": subject, "person": person, "consent": consent}


def _build_captioning() -> dict:
    with gr.Column(scale=3, min_width=240):
        word = gr.Textbox(label="Trigger word", info=TRIGGER_HELP, placeholder="ohwx", max_length=60, elem_id="trigger-word")
        word_base = gr.State(None)
        word_note = panel("", ("keep_mine", "use_theirs"), elem_id="trigger-word-note")
        suggest = gr.Button("Suggest one", size="sm", scale=0, min_width=110)
    with gr.Column(scale=4, min_width=240):
        captioner = gr.Dropdown(
            [(f"{each.title}: {each.about}", each.name) for each in captioners.CAPTIONERS.values()],
            value="builtin",
            label="Captioner",
            info=CAPTIONER_HELP,
        )
        noun = gr.Textbox(label="Class noun", placeholder="dog", max_length=40, visible=False, elem_id="class-noun")
        with gr.Row():
            only_empty = gr.Checkbox(True, label="Only images without a caption", min_width=200)
            write = gr.Button("Write captions", variant="secondary", size="md", min_width=140, elem_id="write-captions")
    parts = {"word": word, "word_base": word_base, "word_note": word_note, "suggest": suggest, "captioner": captioner}
    return {**parts, "noun": noun, "only_empty": only_empty, "write": write}


def open_dataset(workspace: Workspace, dataset_id: str | None) -> Dataset | None:
    dataset = Dataset(workspace.dataset_path(dataset_id)) if dataset_id else None
    return dataset if dataset and dataset.path.exists() else None


def explain_word(word: str) -> str:
    return small(trigger_words.explain_trigger(word))


def header(dataset: Dataset) -> str:
    warning = ""
    if any(image.looks_like_photo for image in dataset.images):
        warning = notice(
            "These images look like photographs. The built-in base generates simple shapes only; choose another base on the Train tab.", "warn"
        )
    return caption_grid.summary(dataset) + warning


def next_step(dataset: Dataset) -> tuple[dict, dict]:
    """Updates of the buttons that train and that write captions: the next step is the primary one."""
    images = dataset.images
    captioned = all(image.caption.strip() for image in images)
    return (
        gr.update(visible=bool(images), variant="primary" if captioned else "secondary"),
        gr.update(variant="secondary" if captioned else "primary"),
    )


def consent_box(dataset: Dataset) -> dict:
    return gr.update(visible=dataset.real_person, value=bool(dataset.consent))


def noun_box(dataset: Dataset) -> dict:
    return gr.update(visible=dataset.subject != "style", info=NOUN_HELP.format(word=dataset.trigger_word or "sks"))


def undo_button(dataset: Dataset) -> dict:
    """Update of the button that restores the image removed last; hidden when none was removed."""
    removed = dataset.removed
    more = f" ({len(removed)} removed)" if len(removed) > 1 else ""
    return gr.update(visible=bool(removed), value=f"Restore {removed[0].name}{more}" if removed else "Undo")


def progress(studio: Studio, owner: str, dataset: Dataset) -> str:
    """The running import or caption job of this dataset: bar, text and Stop."""
    job = unfinished(studio, owner, dataset.id, ("import", "caption"))
    return job_bar.working(job) if job else ""


def unfinished(studio: Studio, owner: str, dataset_id: str, kinds: Sequence[str]) -> Job | None:
    """The newest job of these kinds that reads or changes this dataset."""
    jobs = studio.jobs.list(owner, kinds=kinds, states=("waiting", "running"))
    return next((job for job in jobs if job.payload.get("dataset") == dataset_id), None)


def named(result: str, workspace: Workspace, dataset_id: str, open_id: str | None) -> str:
    """What became of a job, below the title of its dataset if another one is open by now."""
    if not result or dataset_id == open_id:
        return result
    try:
        title = Dataset.open(workspace, dataset_id).title
    except StudioError:
        title = "Removed dataset"
    return heading(title) + result
