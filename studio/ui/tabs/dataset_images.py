"""Images and masks of the open dataset: add, remove, restore."""

from collections.abc import AsyncIterator

import gradio as gr

from studio.core.errors import StudioError
from studio.datasets.dataset import Dataset
from studio.jobs.queue import Job
from studio.ui.api.datasets import uploaded
from studio.ui.components import caption_grid, job_bar
from studio.ui.components.html import notice, notices
from studio.ui.studio import QUIET, Studio, show_errors
from studio.ui.tabs.dataset_editor import Editor, header, undo_button


def wire_images(editor: Editor) -> None:
    _wire_import(editor)
    _wire_removal(editor)
    _wire_masks(editor)


def start_import(studio: Studio, listed: list[dict[str, str]], dataset_id: str, request: gr.Request) -> Job:
    """Start a job that imports files with a decoder process of its own."""
    return studio.jobs.start(studio.jobs.submit(studio.owner(request), "import", {"dataset": dataset_id, "files": listed}))


async def import_result(studio: Studio, job: Job) -> str:
    """Once the job has ended: notes, and the refused files with their reasons."""
    done = await studio.wait_for(job)
    if done.state != "done":
        return notice(done.error or "Import stopped. The images already added are kept.", "bad")
    notes = notices(done.result["notes"])
    added = done.result["added"] + done.result["captions"] + done.result["masks"]
    return caption_grid.refusals(done.result["refused"], added) + notes


def _wire_import(editor: Editor) -> None:
    studio = editor.studio

    async def import_images(request: gr.Request, event: gr.EventData) -> AsyncIterator[tuple]:
        try:
            dataset = Dataset.open(studio.workspace(request), str(event.dataset))
            job = start_import(studio, [uploaded({"path": path}) for path in event.paths], dataset.id, request)
        except StudioError as error:
            yield notice(str(error), "bad"), gr.skip()
            return
        yield "", job_bar.working(job)
        yield await import_result(studio, job), ""

    added = editor.add.import_images(import_images, None, [editor.message, editor.progress], **QUIET)
    added.then(editor.refresh, editor.chosen, editor.refreshed, **QUIET)


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
    async def add_mask(dataset_id: str, request: gr.Request, event: gr.EventData) -> str:
        listed = [{**uploaded({"path": event.path}), "mask_of": str(event.id)}]
        return await import_result(studio, start_import(studio, listed, dataset_id, request))

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

    added = editor.grid.add_mask(add_mask, editor.chosen, editor.message, **QUIET)
    added.then(editor.refresh, editor.chosen, editor.refreshed, **QUIET)
    editor.grid.remove_mask(remove_mask, editor.chosen, [editor.grid, editor.summary], **QUIET)
    editor.grid.restore_mask(restore_mask, editor.chosen, [editor.grid, editor.summary], **QUIET)
