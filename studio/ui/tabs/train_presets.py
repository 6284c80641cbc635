"""Keeping settings and bringing them: save the form as a preset of one's own, and fill it from a file, of this studio or another trainer."""

from dataclasses import dataclass
from pathlib import Path

import gradio as gr

from studio import config as configs
from studio.config import foreign
from studio.config.foreign import Imported
from studio.core.errors import StudioError
from studio.datasets.dataset import Dataset
from studio.runs import starting_points
from studio.ui.components import removed
from studio.ui.components.html import counted, html, notice, small
from studio.ui.components.removed import build_removed
from studio.ui.components.templates import render
from studio.ui.studio import QUIET, Studio, show_errors
from studio.ui.tabs.train_sheet import Sheet, introduce, warn

REPLACE = "Replace the one that is there"
HELP = "Settings of other trainers come in as well: kohya's .toml, ai-toolkit's .yaml. So do a run's config.json and the header of a LoRA made here."


@dataclass(frozen=True)
class Keeping:
    title: gr.Textbox
    save: gr.Button
    replace: gr.Checkbox
    upload: gr.UploadButton
    remove: gr.Button
    said: gr.HTML
    gone: gr.HTML


def build_keeping(studio: Studio) -> Keeping:
    with gr.Accordion("Save and import settings", open=False, elem_classes="fold", elem_id="keep-settings"):
        with gr.Row(elem_classes="keep"):
            title = gr.Textbox(label="Save as preset", placeholder="its name", max_length=starting_points.LONGEST_TITLE, min_width=160, max_lines=1)
            save = gr.Button("Save", size="md", min_width=90, scale=0, elem_id="save-preset")
        replace = gr.Checkbox(label=REPLACE, visible=False, elem_id="replace-preset")
        with gr.Row(elem_classes="toolbar"):
            upload = gr.UploadButton(
                "Import settings from a file", file_types=list(foreign.ENDINGS), size="md", min_width=180, elem_id="import-settings"
            )
            remove = gr.Button("Remove this preset", size="md", min_width=160, visible=False, elem_id="remove-preset")
        html(small(HELP))
        said = html("", elem_id="keep-said")
        gone = build_removed(studio, "presets")
        gone.render()
    return Keeping(title, save, replace, upload, remove, said, gone)


def wire(studio: Studio, keeping: Keeping, sheet: Sheet) -> None:
    goal, pictures = sheet.goal, sheet.pictures

    def keep(dataset_id, title, replace, family, base_model, request: gr.Request, *values):
        """Saved under its title and chosen as the goal; one of that name stays until a person says otherwise."""
        workspace = studio.workspace(request)
        try:
            dataset = Dataset.open(workspace, dataset_id)
            config = sheet.read(family, base_model, values, dataset)
            saved = starting_points.save(workspace, title or "", config, len(dataset.images), bool(replace))
        except StudioError as error:
            return {keeping.said: notice(str(error), "bad"), keeping.replace: gr.update(visible="already" in str(error), value=False)}
        return {
            goal: gr.update(choices=starting_points.list_choices(workspace, dataset.subject, config.model.base_model), value=saved.name),
            keeping.said: notice(f"Saved. {saved.title} now stands under Goal.", "good"),
            keeping.replace: gr.update(visible=False, value=False),
            keeping.title: "",
            sheet.about: introduce(saved) + warn(dataset, config.model.base_model),
            keeping.remove: gr.update(visible=True),
        }

    asked = [pictures, keeping.title, keeping.replace, *sheet.seen]
    changed = [goal, sheet.about, keeping.said, keeping.replace, keeping.title, keeping.remove]
    gr.on([keeping.save.click, keeping.title.submit], keep, asked, changed, **QUIET)

    def bring(dataset_id, file, request: gr.Request):
        """Fill the form from a file, on top of the preset that fits the file's base; and say what became of each of its settings."""
        workspace = studio.workspace(request)
        path = Path(str(file))
        try:
            dataset = Dataset.open(workspace, dataset_id)
            found = foreign.read(path, path.name, len(dataset.images))
            start = configs.for_dataset(dataset, configs.fitting_preset(dataset.subject, found.values.get("model.base_model", "")))
            config = foreign.apply(start, found)
        except StudioError as error:
            return {keeping.said: notice(str(error), "bad")}
        told = small(f"Settings from {path.name}, a file of {found.source}. Change what you like, then start or save them.")
        return {**sheet.fill(workspace, dataset, None, config, told), keeping.said: account(found, dataset)}

    keeping.upload.upload(bring, [pictures, keeping.upload], [*sheet.filling, keeping.said, keeping.replace], **QUIET)

    @show_errors
    def drop(dataset_id, goal_name, card_name, request: gr.Request):
        workspace = studio.workspace(request)
        title = next((preset.title for preset in starting_points.saved_presets(workspace) if preset.name == goal_name), "")
        starting_points.remove(workspace, goal_name or "")
        return {**sheet.open(workspace, dataset_id, card=card_name), keeping.said: notice(f"{title} was removed; below is the way back.")}

    keeping.remove.click(drop, [pictures, goal, sheet.card], [*sheet.filling, keeping.said], **QUIET)

    @show_errors
    def put_back(dataset_id, base_model, request: gr.Request, event: gr.EventData):
        workspace = studio.workspace(request)
        workspace.restore(event.id)
        dataset = Dataset.open(workspace, dataset_id)
        return gr.update(choices=starting_points.list_choices(workspace, dataset.subject, base_model or "")), removed.listing(workspace, "presets")

    keeping.gone.restore(put_back, [pictures, sheet.base], [goal, keeping.gone], **QUIET)


def account(found: Imported, dataset: Dataset) -> str:
    """What was taken from a file and what was not, by name; what matters first."""
    missed, needless = ([each for each in found.skipped if each.matters is matters] for matters in (True, False))
    taken = f"{counted(len(found.values), 'setting')} taken from {found.source}."
    trigger, another = found.values.get("dataset.trigger_word"), ""
    if trigger and trigger != dataset.trigger_word:
        another = f"The file's trigger word is {trigger}; these pictures have {dataset.trigger_word or 'none'}, which is used."
    return render("train", "account", taken, another, missed, needless, counted(len(needless), "setting"))
