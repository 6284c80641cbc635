"""A generated image or sample as an image of the dataset."""

from collections.abc import Sequence

import gradio as gr

from studio.core.workspace import Workspace
from studio.datasets.dataset import Dataset
from studio.jobs.queue import Job
from studio.ui import files
from studio.ui.components import job_bar
from studio.ui.components.following import Followed, Following
from studio.ui.studio import QUIET, Studio, show_errors
from studio.ui.tabs.dataset_choice import choices, choose
from studio.ui.tabs.dataset_editor import Editor
from studio.ui.tabs.dataset_images import show_imports, start_import
from studio.ui.tabs.dataset_new import NewDataset, show

TITLE = "Generated images"


def wire_generated(studio: Studio, editor: Editor, new: NewDataset, tabs: gr.Tabs, images: gr.HTML) -> None:
    """`images` has the event `add_to_dataset` with the `address` of an image on the page."""

    @show_errors
    def add_to_dataset(dataset_id: str | None, followed: Followed | None, request: gr.Request, event: gr.EventData) -> tuple:
        workspace = studio.workspace(request)
        path = files.find_address(workspace, str(event.address))
        dataset_id = _dataset(workspace, dataset_id)
        job = start_import(studio, [{"path": str(path), "name": path.name}], dataset_id, request)
        return *following.begin([job], before=followed), *show(workspace, dataset_id), job_bar.working(job), gr.Tabs(selected="dataset")

    def ended(_: object, jobs: Sequence[Job], request: gr.Request, open_id: str | None) -> tuple:
        shown = any(job.payload["dataset"] == open_id and not job.unfinished for job in jobs)
        result = show_imports(jobs, studio.workspace(request), open_id)
        return result, *(editor.refresh(open_id, request) if shown else [gr.skip()] * len(editor.refreshed))

    following = Following(studio, ended, [editor.message, *editor.refreshed], [editor.chosen])
    outputs = [*following.state, *new.opened, editor.progress, tabs]
    images.add_to_dataset(add_to_dataset, [editor.chosen, following.followed], outputs, **QUIET)


def _dataset(workspace: Workspace, dataset_id: str | None) -> str:
    """The open dataset, or else the newest, or else a new one."""
    return choose(choices(workspace), dataset_id) or Dataset.create(workspace, TITLE, "style").id
