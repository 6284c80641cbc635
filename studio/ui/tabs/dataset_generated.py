"""A generated image or sample as an image of the dataset."""

import gradio as gr

from studio.core.workspace import Workspace
from studio.datasets.dataset import Dataset
from studio.ui import files
from studio.ui.components import job_bar
from studio.ui.components.following import Followed, Following
from studio.ui.studio import QUIET, Studio, show_errors
from studio.ui.tabs.dataset_choice import choices, choose
from studio.ui.tabs.dataset_editor import Editor
from studio.ui.tabs.dataset_images import start_import
from studio.ui.tabs.dataset_new import NewDataset, show

TITLE = "Generated images"


def wire_generated(studio: Studio, editor: Editor, new: NewDataset, tabs: gr.Tabs, images: gr.HTML, imports: Following) -> None:
    """`images` has the event `add_to_dataset` with the `address` of an image on the page; `imports` shows what becomes of it."""

    @show_errors
    def add_to_dataset(dataset_id: str | None, followed: Followed | None, request: gr.Request, event: gr.EventData) -> tuple:
        workspace = studio.workspace(request)
        path = files.find_address(workspace, str(event.address))
        dataset_id = _dataset(workspace, dataset_id)
        job = start_import(studio, [{"path": str(path), "name": path.name}], dataset_id, request)
        return *imports.begin([job], before=followed), *show(workspace, dataset_id), job_bar.working(job), gr.Tabs(selected="dataset")

    outputs = [*imports.state, *new.opened, editor.progress, tabs]
    images.add_to_dataset(add_to_dataset, [editor.chosen, imports.followed], outputs, **QUIET)


def _dataset(workspace: Workspace, dataset_id: str | None) -> str:
    """The open dataset, or else the newest, or else a new one."""
    return choose(choices(workspace), dataset_id) or Dataset.create(workspace, TITLE, "style").id
