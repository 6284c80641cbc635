"""What a choice of dataset, preset, base or GPU memory changes in the Train form."""

from collections.abc import Callable

import gradio as gr

from studio import config as configs
from studio import families
from studio.config import fields, memory_overlays, shipped_presets
from studio.core.errors import StudioError
from studio.core.workspace import Workspace
from studio.datasets.dataset import Dataset
from studio.runs import starting_points
from studio.ui.components.html import notice
from studio.ui.studio import QUIET, Studio
from studio.ui.tabs.dataset_choice import choose, trainable_choices
from studio.ui.tabs.train_form import TrainForm, base_override, describe_preset, warnings


def wire_choices(studio: Studio, form: TrainForm, about_memory: gr.HTML, chosen: gr.State) -> tuple[Callable, list]:
    """Returns the handler that refreshes the form when the tab is opened, and its inputs."""
    _wire_preset(studio, form)
    _wire_base(studio, form)
    _wire_memory(studio, form, about_memory)
    form.dataset.input(lambda dataset_id: dataset_id, form.dataset, chosen, **QUIET)
    return _wire_dataset(studio, form, chosen)


def _wire_dataset(studio: Studio, form: TrainForm, chosen: gr.State) -> tuple[Callable, list]:
    def refresh(
        dataset_id: str | None,
        filled_for: list | tuple | None,
        steps: float | None,
        suggested: int | None,
        preset: str | None,
        base_model: str | None,
        memory: str,
        request: gr.Request,
    ) -> dict:
        """When the tab is opened, or another dataset is chosen on any tab. Another dataset or trigger word fills the form again. Otherwise what
        was typed is kept, and only new choices are offered: datasets, runs to take settings from, and steps for a changed number of images."""
        workspace = studio.workspace(request)
        known = trainable_choices(workspace)
        open_id = choose(known, dataset_id)
        dataset = Dataset.open(workspace, open_id) if open_id else None
        if not dataset or not filled_for or tuple(filled_for)[:2] != (open_id, dataset.trigger_word):
            return form.open(workspace, open_id, memory=memory)
        presets = starting_points.list_choices(workspace, dataset.subject, base_model or "")
        changed = {form.dataset: gr.update(choices=known), form.preset: gr.update(choices=presets)}
        if len(dataset.images) != filled_for[2] and preset and steps == suggested:
            changed |= _suggest_again(form, workspace, dataset, preset)
            changed[form.filled_for] = (open_id, dataset.trigger_word, len(dataset.images))
        return changed

    inputs = [chosen, form.filled_for, form.steps, form.suggested_steps, form.preset, form.base, form.memory]
    chosen.change(refresh, inputs, form.outputs, **QUIET)
    return refresh, inputs


def _suggest_again(form: TrainForm, workspace: Workspace, dataset: Dataset, preset: str) -> dict:
    steps = starting_points.build_config(workspace, dataset, preset).training.max_train_steps
    return form.suggest(dataset, steps, steps)


def _wire_preset(studio: Studio, form: TrainForm) -> None:
    def choose_preset(dataset_id: str, preset: str, memory: str, request: gr.Request) -> dict:
        try:
            return form.open(studio.workspace(request), dataset_id, preset, memory=memory)
        except StudioError as error:
            # A run that no longer exists, or a preset that cannot be read and may be removed.
            return {form.about: notice(str(error), "bad"), form.remove: gr.update(visible=preset.startswith(starting_points.MINE))}

    form.preset.input(choose_preset, [form.dataset, form.preset, form.memory], form.outputs, **QUIET)


def _wire_base(studio: Studio, form: TrainForm) -> None:
    def choose_base(dataset_id: str, base_preset: str, base_model: str | None, memory: str, request: gr.Request) -> dict:
        """Settings that suit one base ruin a base of another kind, so its own preset is loaded; between two of a kind what was typed is kept."""
        workspace = studio.workspace(request)
        dataset, base_model = Dataset.open(workspace, dataset_id), (base_model or "").strip()
        if configs.fitting_preset(dataset.subject, base_model) != base_preset:
            return form.open(workspace, dataset_id, None, base_model, memory)
        known = families.detect(base_model)
        return {
            form.about: describe_preset(shipped_presets.get(base_preset)) + warnings(dataset, base_model),
            # A revision that was typed belongs to the other base.
            form.form.widgets["model.revision"]: "",
            form.family: known.name if known else "",
        }

    form.base.input(choose_base, [form.dataset, form.base_preset, form.base, form.memory], form.outputs, **QUIET)


def _wire_memory(studio: Studio, form: TrainForm, about_memory: gr.HTML) -> None:
    def choose_memory(
        dataset_id: str, preset: str | None, memory: str, family: str | None, base_model: str | None, request: gr.Request, *values: object
    ) -> dict:
        """Set what a GPU of this size needs, and the preset's values where it needs nothing; all other settings stay as typed."""
        workspace = studio.workspace(request)
        try:
            if preset:
                dataset = Dataset.open(workspace, dataset_id)
                config = starting_points.build_config(workspace, dataset, preset, *base_override(base_model), memory=memory)
            else:
                config = memory_overlays.fit(form.read(family, base_model, values), memory)
        except StudioError as error:
            return {about_memory: notice(str(error), "bad")}
        widgets = form.form.widgets
        changed = {widgets[path]: form.form.widget_value(path, fields.get(config, path)) for path in memory_overlays.OWNED}
        return {about_memory: notice(memory_overlays.get(memory).description) if memory else "", **changed}

    inputs = [form.dataset, form.preset, form.memory, *form.inputs]
    form.memory.input(choose_memory, inputs, [about_memory, *form.form.inputs], **QUIET)
