"""Editor of the open dataset: toolbar, trigger word, captioner and the grid of images; what they show, not what they do."""

from dataclasses import dataclass

import gradio as gr

from studio.core.workspace import Workspace
from studio.datasets import captioners, trigger_words
from studio.datasets.dataset import Dataset
from studio.ui import files
from studio.ui.components import caption_grid, job_bar, mask_view
from studio.ui.components.html import html, notice, panel, small
from studio.ui.components.templates import render
from studio.ui.studio import Studio, show_errors
from studio.ui.tabs.dataset_caption_functions import CAPTION_EVENTS, caption_functions

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
    add: gr.UploadButton
    summary: gr.HTML
    undo: gr.Button
    export: gr.HTML
    train: gr.Button
    captioning: gr.Row
    word: gr.Textbox
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
        return [self.column, self.summary, self.grid, self.progress, self.export, self.undo, self.add, self.train, self.captioning]

    @property
    def shown(self) -> list:
        """Outputs of `show`."""
        return [*self.refreshed, self.word, self.word_note, self.noun]

    @show_errors
    def show(self, dataset_id: str | None, request: gr.Request) -> tuple:
        """Values of `shown`."""
        dataset = open_dataset(self.studio.workspace(request), dataset_id)
        if dataset is None:
            return gr.update(visible=False), "", "", "", "", *[gr.skip()] * 4, "", "", gr.skip()
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
            gr.update(variant="secondary" if has_images else "primary"),
            gr.update(visible=has_images),
            gr.update(visible=has_images),
            word,
            explain_word(word),
            gr.update(visible=dataset.subject != "style", info=NOUN_HELP.format(word=word or "sks")),
        )

    def refresh(self, dataset_id: str | None, request: gr.Request) -> tuple:
        """Values of `refreshed`: the trigger word is left out, because the user may be typing it."""
        return self.show(dataset_id, request)[: len(self.refreshed)]


def build_editor(studio: Studio, chosen: gr.State) -> Editor:
    with gr.Column(visible=False, elem_id="dataset-work") as column:
        toolbar = _build_toolbar()
        with gr.Row(elem_classes="pane captioning") as captioning:
            fields = _build_captioning()
        message = panel("", ("undo_captions",), elem_id="dataset-message")
        progress = panel("", ("stop",), elem_id="dataset-progress")
        grid = panel("", ("remove_image", *CAPTION_EVENTS, *mask_view.EVENTS), server_functions=caption_functions(studio), elem_id="captions")
    return Editor(studio, chosen, column, **toolbar, captioning=captioning, **fields, message=message, progress=progress, grid=grid)


def _build_toolbar() -> dict:
    with gr.Row(elem_classes="toolbar"):
        return {
            "add": gr.UploadButton(
                "Add images",
                file_count="multiple",
                variant="secondary",
                size="md",
                min_width=130,
                scale=0,
                elem_id="add-images",
                elem_classes="file-drop",
            ),
            "summary": panel("", ("put_trigger",), elem_id="dataset-summary"),
            "undo": gr.Button("Undo", size="md", visible=False, scale=0, min_width=90),
            "export": html("", elem_id="export", min_width=100),
            "train": gr.Button("Train with this dataset", variant="primary", scale=0, min_width=230),
        }


def _build_captioning() -> dict:
    with gr.Column(scale=3, min_width=240):
        word = gr.Textbox(label="Trigger word", info=TRIGGER_HELP, placeholder="ohwx", max_length=60, elem_id="trigger-word")
        word_note = html("", elem_id="trigger-word-note")
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
    parts = {"word": word, "word_note": word_note, "suggest": suggest, "captioner": captioner}
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


def undo_button(dataset: Dataset) -> dict:
    """Update of the button that restores the image removed last; hidden when none was removed."""
    removed = dataset.removed
    more = f" ({len(removed)} removed)" if len(removed) > 1 else ""
    return gr.update(visible=bool(removed), value=f"Restore {removed[0].name}{more}" if removed else "Undo")


def progress(studio: Studio, owner: str, dataset: Dataset) -> str:
    """The running import or caption job of this dataset: bar, text and Stop."""
    for job in studio.jobs.list(owner, kinds=("import", "caption"), states=("waiting", "running")):
        if job.payload.get("dataset") == dataset.id:
            return job_bar.working(job)
    return ""
