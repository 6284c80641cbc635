"""Choose a dataset, create one by dropping images, or copy the sample images."""

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import gradio as gr

from studio.core.errors import StudioError
from studio.core.workspace import Workspace
from studio.datasets.dataset import Dataset
from studio.jobs.queue import Job
from studio.ui.api.datasets import uploaded
from studio.ui.components import job_bar, sample_sets
from studio.ui.components.following import SKIP, Followed, Following
from studio.ui.components.html import html, notice, panel
from studio.ui.components.removed import build_removed, listing
from studio.ui.components.templates import render
from studio.ui.studio import QUIET, Studio, show_errors
from studio.ui.tabs.dataset_choice import choices, choose
from studio.ui.tabs.dataset_editor import Editor, open_dataset, unfinished
from studio.ui.tabs.dataset_images import show_imports, start_import


@dataclass(frozen=True)
class NewDataset:
    """For the page: `load(dataset id, request)` gives the values of `opened`."""

    load: Callable
    opened: list
    removed: gr.HTML
    """Removed datasets, to be placed at the end of the tab."""
    picker: gr.Dropdown
    zone: gr.HTML
    samples: gr.HTML


@dataclass(frozen=True)
class Parts:
    """Components of the toolbar, and of the column that makes a new dataset."""

    picker: gr.Dropdown
    new: gr.Button
    remove: gr.Button
    undo: gr.Button
    form: gr.Column
    zone: gr.HTML
    message: gr.HTML
    samples: gr.HTML
    removed: gr.HTML


def build_new(studio: Studio, chosen: gr.State) -> NewDataset:
    """`zone` is wired by `wire_zone`, once there is an editor to show its result."""
    parts = _build_parts(studio)
    opened = [chosen, parts.picker, parts.new, parts.remove, parts.form, parts.message, parts.removed]
    parts.picker.input(lambda each: each, parts.picker, chosen, **QUIET)
    chosen.change(lambda each: each, chosen, parts.picker, **QUIET)
    parts.new.click(lambda: gr.update(visible=True), None, parts.form, **QUIET)
    _wire_removal(studio, parts, chosen, opened)

    def load(dataset_id: str | None, request: gr.Request) -> tuple:
        return show(studio.workspace(request), dataset_id)

    return NewDataset(load, opened, parts.removed, parts.picker, parts.zone, parts.samples)


def _build_parts(studio: Studio) -> Parts:
    with gr.Row(elem_classes="toolbar"):
        picker = gr.Dropdown(
            [], label="Dataset", show_label=False, container=False, visible=False, min_width=220, scale=0, elem_id="dataset-picker", filterable=False
        )
        new = gr.Button("New dataset", size="md", scale=0, min_width=160, visible=False, elem_id="new-dataset")
        remove = gr.Button("Remove dataset", size="md", scale=0, min_width=160, visible=False)
        undo = gr.Button("Undo", size="md", scale=0, min_width=90, visible=False)
    # Hidden until the page knows whether there are datasets.
    with gr.Column(visible=False, elem_id="dataset-new") as form:
        zone = panel(render("dataset", "drop_zone"), ("import_images",), elem_id="drop-images")
        message = html("", elem_id="new-dataset-message")
        samples = panel(sample_sets.cards("Or try it with the sample images:"), ("use_samples",), elem_id="samples")
    removed = build_removed(studio, "datasets")
    return Parts(picker, new, remove, undo, form, zone, message, samples, removed)


def show(workspace: Workspace, dataset_id: str | None, form: bool = False, message: str = "") -> tuple:
    """Values of `opened` for this dataset, or for the newest if it does not exist; the zone is shown for the first one, or with `form`."""
    known = choices(workspace)
    dataset_id = choose(known, dataset_id)
    has_datasets = bool(known)
    return (
        dataset_id,
        gr.update(choices=known, value=dataset_id, visible=has_datasets),
        gr.update(visible=has_datasets),
        gr.update(visible=has_datasets),
        gr.update(visible=form or not has_datasets),
        message,
        listing(workspace, "datasets"),
    )


def wire_zone(studio: Studio, new: NewDataset, editor: Editor) -> None:
    """Files dropped on the zone make a dataset; the editor shows the progress and the result of their import."""
    untouched = [gr.skip()] * len(new.opened)

    def create(followed: Followed | None, request: gr.Request, event: gr.EventData) -> tuple:
        workspace = studio.workspace(request)
        try:
            listed = [uploaded({"path": path}) for path in event.paths]
            dataset = Dataset.create(workspace, str(event.name) or _name_of_today())
        except StudioError as error:
            return *SKIP, *untouched[2:], notice(str(error), "bad"), gr.skip(), gr.skip(), gr.skip()
        job = start_import(studio, listed, dataset.id, request)
        return *following.begin([job], before=followed), *show(workspace, dataset.id), "", job_bar.working(job)

    def ended(_: object, jobs: Sequence[Job], request: gr.Request, open_id: str | None) -> tuple:
        """A dataset for which no file could be used is removed again, unless more files are on their way; the zone says why."""
        made = list(dict.fromkeys(job.payload["dataset"] for job in jobs if not job.unfinished))
        if not made:
            return *untouched, gr.skip(), *editor.refresh_if(False, open_id, request)
        workspace = studio.workspace(request)
        result = show_imports(jobs, workspace, open_id)
        unused = [each for each in made if _is_unused(studio, workspace, jobs[-1].owner, each)]
        for each in unused:
            workspace.erase(workspace.remove(workspace.dataset_path(each)))
        if unused:
            return *show(workspace, open_id, form=True, message=result), "", *editor.refresh_if(False, open_id, request)
        return *untouched, result, *editor.refresh_if(open_id in made, open_id, request)

    following = Following(studio, ended, [*new.opened, editor.message, *editor.refreshed], [editor.chosen])
    new.zone.import_images(create, following.followed, [*following.state, *new.opened, editor.message, editor.progress], **QUIET)


def _is_unused(studio: Studio, workspace: Workspace, owner: str, dataset_id: str) -> bool:
    """Whether no file of a new dataset could be used, and none is on its way. Images that the user has removed meanwhile can still be restored."""
    dataset = open_dataset(workspace, dataset_id)
    return dataset is not None and not dataset.images and not dataset.removed and unfinished(studio, owner, dataset_id, ("import",)) is None


def _name_of_today() -> str:
    today = time.localtime()
    return f"Images of {today.tm_mday} {time.strftime('%b', today)}"


def wire_samples(studio: Studio, new: NewDataset, tabs: gr.Tabs, elsewhere: gr.HTML) -> None:
    """A click on a card makes a dataset and shows it; `elsewhere` is the panel with the same cards on another tab."""

    @show_errors
    def copy_samples(request: gr.Request, event: gr.EventData) -> tuple:
        workspace = studio.workspace(request)
        return *show(workspace, Dataset.from_samples(workspace, str(event.sample)).id), gr.Tabs(selected="dataset")

    for panel_ in (new.samples, elsewhere):
        panel_.use_samples(copy_samples, None, [*new.opened, tabs], **QUIET)


def _wire_removal(studio: Studio, parts: Parts, chosen: gr.State, opened: list) -> None:
    last = gr.State(None)

    @show_errors
    def remove_dataset(dataset_id: str, request: gr.Request) -> tuple:
        workspace = studio.workspace(request)
        name = Dataset.open(workspace, dataset_id).title
        trashed = workspace.remove(workspace.dataset_path(dataset_id))
        return *show(workspace, None), trashed, gr.update(visible=True, value=f"Restore {name}")

    @show_errors
    def restore_last(trashed: str, request: gr.Request) -> tuple:
        workspace = studio.workspace(request)
        return *show(workspace, workspace.restore(trashed).name), None, gr.update(visible=False)

    @show_errors
    def restore(request: gr.Request, event: gr.EventData) -> tuple:
        return restore_last(event.id, request)

    outputs = [*opened, last, parts.undo]
    parts.remove.click(remove_dataset, chosen, outputs, **QUIET)
    parts.undo.click(restore_last, last, outputs, **QUIET)
    parts.removed.restore(restore, None, outputs, **QUIET)
