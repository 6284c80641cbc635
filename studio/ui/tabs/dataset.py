"""The tab Images & captions: a dataset's images, captions, masks and trigger word."""

import gradio as gr

from studio.ui.components.html import html
from studio.ui.components.templates import render
from studio.ui.studio import QUIET, Studio
from studio.ui.tabs.dataset_about import wire_about
from studio.ui.tabs.dataset_captions import wire_captions
from studio.ui.tabs.dataset_editor import build_editor, open_dataset, progress
from studio.ui.tabs.dataset_generated import wire_generated
from studio.ui.tabs.dataset_images import wire_images
from studio.ui.tabs.dataset_new import NewDataset, build_new, wire_samples, wire_zone

TITLE = "Images & captions"


def build(studio: Studio, tabs: gr.Tabs, chosen: gr.State, job_changes: gr.State, images: gr.HTML, samples: gr.HTML) -> tuple[NewDataset, gr.Button]:
    """`chosen` holds the id of the dataset that is open on all tabs; `job_changes` changes when an import or caption job makes progress; `images`
    has an event for a generated image, and `samples` shows the cards of the sample images on another tab. Returns also the button that leads to the
    Train tab, which is built later."""
    html(render("dataset", "head"))
    new = build_new(studio, chosen)
    editor = build_editor(studio, chosen)
    new.removed.render()
    busy = gr.State(False)

    def poll(dataset_id: str | None, busy: bool, request: gr.Request) -> tuple:
        """Refresh while an import or caption job of this dataset runs, and once after it; called each second while any job makes progress."""
        dataset = open_dataset(studio.workspace(request), dataset_id)
        now_busy = bool(dataset and progress(studio, studio.owner(request), dataset))
        return *editor.refresh_if(busy or now_busy, dataset_id, request), now_busy

    new.picker.input(lambda: "", None, editor.message, **QUIET)
    chosen.change(editor.show, chosen, editor.shown, **QUIET)
    job_changes.change(poll, [chosen, busy], [*editor.refreshed, busy], **QUIET)
    wire_samples(studio, new, tabs, samples)
    wire_zone(studio, new, editor)
    wire_about(editor, new.picker)
    imports = wire_images(editor)
    wire_captions(editor)
    wire_generated(studio, editor, new, tabs, images, imports)
    return new, editor.train
