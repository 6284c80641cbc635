"""Save the form's settings as a preset, and import settings from a file of this studio or of another trainer."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import gradio as gr

from studio import config as configs
from studio.config import foreign
from studio.config.foreign import Imported
from studio.core.errors import StudioError
from studio.core.wording import counted
from studio.datasets.dataset import Dataset
from studio.runs import starting_points
from studio.ui.components import removed
from studio.ui.components.html import html, notice, small
from studio.ui.components.removed import build_removed
from studio.ui.components.templates import render
from studio.ui.studio import QUIET, Studio, show_errors
from studio.ui.tabs.train_form import BASE, Filled, TrainForm, describe_preset, warnings

REPLACE = "Replace the preset of this name"
HELP = "Reads the settings of kohya (.toml) and ai-toolkit (.yaml), the config.json of a run, and the header of a LoRA trained here."


@dataclass(frozen=True)
class PresetStore:
    title: gr.Textbox
    save: gr.Button
    replace: gr.Checkbox
    upload: gr.UploadButton
    remove: gr.Button
    message: gr.HTML
    removed: gr.HTML


def build_presets(studio: Studio) -> PresetStore:
    with gr.Accordion("Save and import settings", open=False, elem_classes="fold", elem_id="keep-settings"):
        with gr.Row(elem_classes="keep"):
            title = gr.Textbox(label="Save as preset", placeholder="name", max_length=starting_points.LONGEST_TITLE, min_width=160, max_lines=1)
            save = gr.Button("Save", size="md", min_width=90, scale=0, elem_id="save-preset")
        replace = gr.Checkbox(label=REPLACE, visible=False, elem_id="replace-preset")
        with gr.Row(elem_classes="toolbar"):
            upload = gr.UploadButton(
                "Import settings from a file", file_types=list(foreign.ENDINGS), size="md", min_width=180, elem_id="import-settings"
            )
            remove = gr.Button("Remove this preset", size="md", min_width=160, visible=False, elem_id="remove-preset")
        html(small(HELP))
        message = html("", elem_id="presets-message")
        removed_presets = build_removed(studio, "presets")
        removed_presets.render()
    return PresetStore(title, save, replace, upload, remove, message, removed_presets)


def wire(studio: Studio, store: PresetStore, form: TrainForm) -> None:
    _wire_save(studio, store, form)
    _wire_import(studio, store, form)
    _wire_removal(studio, store, form)


def _wire_save(studio: Studio, store: PresetStore, form: TrainForm) -> None:
    def save_preset(dataset_id: str, title: str | None, replace: bool, request: gr.Request, filled_with: str | None, *values: Any) -> dict:
        """Save under this title and select it. A preset of the same name is replaced only on request."""
        workspace = studio.workspace(request)
        try:
            dataset = Dataset.open(workspace, dataset_id)
            config = form.read(Filled.read(filled_with), values, dataset)
            saved = starting_points.save(workspace, title or "", config, len(dataset.images), bool(replace))
        except StudioError as error:
            return {store.message: notice(str(error), "bad"), store.replace: gr.update(visible="already" in str(error), value=False)}
        presets = starting_points.list_choices(workspace, dataset.subject, config.model.base_model)
        return {
            form.preset: gr.update(choices=presets, value=saved.name),
            store.message: notice(f"Saved. {saved.title} is now in the list of presets.", "good"),
            store.replace: gr.update(visible=False, value=False),
            store.title: "",
            form.about: describe_preset(saved) + warnings(dataset, config.model.base_model),
            store.remove: gr.update(visible=True),
        }

    inputs = [form.dataset, store.title, store.replace, *form.inputs]
    outputs = [form.preset, form.about, store.message, store.replace, store.title, store.remove]
    gr.on([store.save.click, store.title.submit], save_preset, inputs, outputs, **QUIET)


def _wire_import(studio: Studio, store: PresetStore, form: TrainForm) -> None:
    def import_settings(dataset_id: str, file: str, request: gr.Request) -> dict:
        """Fill the form from a file, on top of the preset that fits the file's base, and report each of its settings."""
        workspace = studio.workspace(request)
        path = Path(str(file))
        try:
            dataset = Dataset.open(workspace, dataset_id)
            found = foreign.read(path, path.name, len(dataset.images))
            start = configs.for_dataset(dataset, configs.fitting_preset(dataset.subject, found.values.get("model.base_model", "")))
            config = foreign.apply(start, found)
        except StudioError as error:
            return {store.message: notice(str(error), "bad")}
        about = small(f"Settings from {path.name}, a file of {found.source}. Edit them, then start a training or save them as a preset.")
        return {**form.fill(workspace, dataset, None, config, about), store.message: import_report(found, dataset)}

    store.upload.upload(import_settings, [form.dataset, store.upload], [*form.outputs, store.message, store.replace], **QUIET)


def _wire_removal(studio: Studio, store: PresetStore, form: TrainForm) -> None:
    @show_errors
    def remove_preset(dataset_id: str, preset: str | None, memory: str, request: gr.Request, filled_with: str | None, *values: Any) -> dict:
        """Fill the form with the preset that fits the chosen base; what the user changed stays."""
        workspace, filled = studio.workspace(request), Filled.read(filled_with)
        base_model = (form.form.by_path(values)[BASE] or "").strip() if filled else ""
        title = next((each.title for each in starting_points.saved_presets(workspace) if each.name == preset), "")
        starting_points.remove(workspace, preset or "")
        opened = form.open(workspace, dataset_id, base_model=base_model, memory=memory, touched=form.touched(filled, values))
        return {**opened, store.message: notice(f"{title} was removed. It can be restored below.")}

    @show_errors
    def restore_preset(dataset_id: str, base_model: str | None, request: gr.Request, event: gr.EventData) -> tuple:
        workspace = studio.workspace(request)
        workspace.restore(event.id)
        dataset = Dataset.open(workspace, dataset_id)
        return gr.update(choices=starting_points.list_choices(workspace, dataset.subject, base_model or "")), removed.listing(workspace, "presets")

    store.remove.click(remove_preset, [form.dataset, form.preset, form.memory, *form.inputs], [*form.outputs, store.message], **QUIET)
    store.removed.restore(restore_preset, [form.dataset, form.base], [form.preset, store.removed], **QUIET)


def import_report(found: Imported, dataset: Dataset) -> str:
    """Which settings of a file were used and which were not, by name; those that matter first."""
    important, unimportant = ([each for each in found.skipped if each.matters is matters] for matters in (True, False))
    used = f"{counted(len(found.values), 'setting')} used from {found.source}."
    word, warning = found.values.get("dataset.trigger_word"), ""
    if word and word != dataset.trigger_word:
        warning = f"The file's trigger word is {word}; this dataset's is {dataset.trigger_word or 'empty'}, which is used."
    return render("train", "import_report", used, warning, important, unimportant, counted(len(unimportant), "setting"))
