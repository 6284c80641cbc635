"""Images and masks of the open dataset: add, remove, restore."""

import gradio as gr

from studio.datasets.dataset import Dataset
from studio.ui.api.datasets import uploaded
from studio.ui.components import caption_grid
from studio.ui.components.html import notice, notices
from studio.ui.studio import QUIET, Studio, show_errors
from studio.ui.tabs.dataset_editor import Editor, header, undo_button


def wire_images(editor: Editor) -> None:
    _wire_import(editor)
    _wire_removal(editor)
    _wire_masks(editor)


async def run_import(studio: Studio, listed: list[dict[str, str]], dataset_id: str, request: gr.Request) -> str:
    """Import files in a job with a decoder process of its own; returns notes and the refused files with their reasons."""
    job = studio.jobs.submit(studio.owner(request), "import", {"dataset": dataset_id, "files": listed})
    done = await studio.wait_for(studio.jobs.start(job))
    if done.state != "done":
        return notice(done.error or "Import stopped. The images already added are kept.", "bad")
    notes = notices(done.result["notes"])
    added = done.result["added"] + done.result["captions"] + done.result["masks"]
    return caption_grid.refusals(done.result["refused"], added) + notes


def _wire_import(editor: Editor) -> None:
    @show_errors
    async def import_files(paths: list[str] | None, dataset_id: str, request: gr.Request) -> str:
        listed = [{"path": str(path), "name": str(path).replace("\\", "/").rpartition("/")[2]} for path in paths or []]
        return await run_import(editor.studio, listed, dataset_id, request)

    added = editor.add.upload(import_files, [editor.add, editor.chosen], editor.message, **QUIET)
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
        return await run_import(studio, [{**uploaded({"path": event.path}), "mask_of": str(event.id)}], dataset_id, request)

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
