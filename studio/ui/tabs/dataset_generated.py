"""A generated image or sample as an image of the dataset."""

import gradio as gr

from studio.core.workspace import Workspace
from studio.datasets.dataset import Dataset
from studio.ui import files
from studio.ui.studio import QUIET, Studio, show_errors
from studio.ui.tabs.dataset_editor import Editor
from studio.ui.tabs.dataset_images import run_import
from studio.ui.tabs.dataset_new import NewDataset, choices, show

TITLE = "Generated images"


def wire_generated(studio: Studio, editor: Editor, new: NewDataset, tabs: gr.Tabs, images: gr.HTML) -> None:
    """`images` has the event `add_to_dataset` with the `address` of an image on the page."""

    @show_errors
    async def add_to_dataset(dataset_id: str | None, request: gr.Request, event: gr.EventData) -> tuple:
        workspace = studio.workspace(request)
        path = files.find_address(workspace, str(event.address))
        dataset_id = _dataset(workspace, dataset_id)
        message = await run_import(studio, [{"path": str(path), "name": path.name}], dataset_id, request)
        return *show(workspace, dataset_id), message, gr.Tabs(selected="dataset")

    added = images.add_to_dataset(add_to_dataset, editor.chosen, [*new.opened, editor.message, tabs], **QUIET)
    added.then(editor.refresh, editor.chosen, editor.refreshed, **QUIET)


def _dataset(workspace: Workspace, dataset_id: str | None) -> str:
    """The open dataset, or else the newest, or else a new one."""
    known = [each for _, each in choices(workspace)]
    if dataset_id in known:
        return str(dataset_id)
    return known[0] if known else Dataset.create(workspace, TITLE, "style").id
