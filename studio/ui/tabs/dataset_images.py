"""Images and masks of the open dataset: add, remove, restore."""

from collections.abc import Sequence

import gradio as gr

from studio.core.errors import StudioError
from studio.core.workspace import Workspace
from studio.datasets.dataset import Dataset
from studio.jobs.queue import Job
from studio.ui.api.datasets import uploaded
from studio.ui.components import caption_grid, job_bar
from studio.ui.components.following import SKIP, Followed, Following
from studio.ui.components.html import notice, notices
from studio.ui.studio import QUIET, Studio, show_errors
from studio.ui.tabs.dataset_editor import Editor, header, named, undo_button


def wire_images(editor: Editor) -> Following:
    """Returns what follows the imports, for images that come from other tabs."""
    imports = _wire_import(editor)
    _wire_removal(editor)
    _wire_masks(editor)
    return imports


def start_import(studio: Studio, listed: list[dict[str, str]], dataset_id: str, request: gr.Request) -> Job:
    """Start a job that imports files with a decoder process of its own."""
    return studio.jobs.start(studio.jobs.submit(studio.owner(request), "import", {"dataset": dataset_id, "files": listed}))


def show_imports(jobs: Sequence[Job], workspace: Workspace, open_id: str | None) -> str:
    """Notes and refused files with their reasons, of all imports that have ended."""
    shown = []
    for job in jobs:
        result = ""
        if job.state == "done":
            added = job.result["added"] + job.result["captions"] + job.result["masks"]
            result = caption_grid.refusals(job.result["refused"], added) + notices(job.result["notes"])
        elif not job.unfinished:
            result = notice(job.error or "Import stopped. The images already added are kept.", "bad")
        shown.append(named(result, workspace, job.payload["dataset"], open_id))
    return "".join(shown)


def _wire_import(editor: Editor) -> Following:
    """Images and masks, each import in a job; the images meanwhile come with the page's own poll."""
    studio = editor.studio

    def show(_: object, jobs: Sequence[Job], request: gr.Request, dataset_id: str) -> tuple:
        """An import can be shorter than a second of the page's poll, so its end shows the images too."""
        ended = not any(job.unfinished for job in jobs)
        result = show_imports(jobs, studio.workspace(request), dataset_id)
        return result, *editor.refresh_if(ended, dataset_id, request)

    following = Following(studio, show, [editor.message, *editor.refreshed], [editor.chosen])

    def start(listed: list[dict[str, str]], dataset_id: str, followed: Followed | None, request: gr.Request) -> tuple:
        job = start_import(studio, listed, dataset_id, request)
        return *following.begin([job], before=followed), job_bar.working(job), ""

    def import_images(followed: Followed | None, request: gr.Request, event: gr.EventData) -> tuple:
        try:
            dataset = Dataset.open(studio.workspace(request), str(event.dataset))
            return start([uploaded({"path": path}) for path in event.paths], dataset.id, followed, request)
        except StudioError as error:
            return *SKIP, gr.skip(), notice(str(error), "bad")

    def add_mask(dataset_id: str, followed: Followed | None, request: gr.Request, event: gr.EventData) -> tuple:
        try:
            return start([{**uploaded({"path": event.path}), "mask_of": str(event.id)}], dataset_id, followed, request)
        except StudioError as error:
            return *SKIP, gr.skip(), notice(str(error), "bad")

    outputs = [*following.state, editor.progress, editor.message]
    editor.add.import_images(import_images, following.followed, outputs, **QUIET)
    editor.grid.add_mask(add_mask, [editor.chosen, following.followed], outputs, **QUIET)
    return following


def _wire_removal(editor: Editor) -> None:
    studio = editor.studio

    @show_errors
    def remove_image(dataset_id: str, request: gr.Request, event: gr.EventData) -> tuple:
        dataset = Dataset.open(studio.workspace(request), dataset_id)
        dataset.remove([event.id])
        return caption_grid.grid(dataset), header(dataset), undo_button(dataset)

    @show_errors
    def restore_image(dataset_id: str, request: gr.Request) -> tuple:
        """Restore the image removed last; called again, the one before it."""
        dataset = Dataset.open(studio.workspace(request), dataset_id)
        dataset.restore(image.id for image in dataset.removed[:1])
        return caption_grid.grid(dataset), header(dataset), undo_button(dataset)

    outputs = [editor.grid, editor.summary, editor.undo]
    editor.grid.remove_image(remove_image, editor.chosen, outputs, **QUIET)
    editor.undo.click(restore_image, editor.chosen, outputs, **QUIET)


def _wire_masks(editor: Editor) -> None:
    studio = editor.studio

    @show_errors
    def remove_mask(dataset_id: str, request: gr.Request, event: gr.EventData) -> tuple:
        dataset = Dataset.open(studio.workspace(request), dataset_id)
        dataset.remove_mask(str(event.id))
        return caption_grid.grid(dataset), header(dataset)

    @show_errors
    def restore_mask(dataset_id: str, request: gr.Request, event: gr.EventData) -> tuple:
        dataset = Dataset.open(studio.workspace(request), dataset_id)
        dataset.undo_mask(str(event.id))
        return caption_grid.grid(dataset), header(dataset)

    editor.grid.remove_mask(remove_mask, editor.chosen, [editor.grid, editor.summary], **QUIET)
    editor.grid.restore_mask(restore_mask, editor.chosen, [editor.grid, editor.summary], **QUIET)
