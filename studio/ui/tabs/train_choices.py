"""What a choice of dataset, preset, base or GPU memory changes in the Train form."""

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

import gradio as gr

from studio import config as configs
from studio import families
from studio.config import fields, memory_overlays, shipped_presets
from studio.core.errors import StudioError
from studio.datasets.dataset import Dataset
from studio.runs import starting_points
from studio.runs.starting_points import MINE, RUN
from studio.ui.components.html import notice
from studio.ui.studio import QUIET, Studio, show_errors
from studio.ui.tabs.dataset_choice import choose, trainable_choices
from studio.ui.tabs.train_cards import SetupCards, wire_choice
from studio.ui.tabs.train_form import BASE, NOT_OPENED, REVISION, Filled, TrainForm, base_override, describe_preset, warnings


def wire_choices(studio: Studio, form: TrainForm, about_memory: gr.HTML, chosen: gr.State, cards: SetupCards) -> tuple[Callable, list]:
    """Returns the handler that refreshes the form when the tab is opened, and its inputs."""
    _wire_preset(studio, form, cards)
    _wire_base(studio, form, cards)
    _wire_memory(studio, form, about_memory)
    _wire_kept(studio, form)
    form.dataset.input(lambda dataset_id: dataset_id, form.dataset, chosen, **QUIET)
    cards.dataset.choose(choose_dataset, None, chosen, **QUIET)
    return _wire_dataset(studio, form, chosen)


def choose_dataset(event: gr.EventData) -> str:
    return event.value


def _wire_dataset(studio: Studio, form: TrainForm, chosen: gr.State) -> tuple[Callable, list]:
    def refresh(dataset_id: str | None, memory: str, request: gr.Request, filled_with: str | None, *values: Any) -> dict:
        """When the tab is opened, or another dataset is chosen on any tab. Another dataset or trigger word fills the form again, without what the
        user changed. Otherwise only new choices are offered: datasets, runs to take settings from, and steps for a changed number of images."""
        if filled_with == NOT_OPENED:
            # The opening fills the form; an answer that comes after it would replace what was typed since.
            return {form.dataset: gr.skip()}
        workspace, filled = studio.workspace(request), Filled.read(filled_with)
        known = trainable_choices(workspace)
        open_id = choose(known, dataset_id)
        dataset = Dataset.open(workspace, open_id) if open_id else None
        if not dataset or not filled:
            return form.open(workspace, open_id, memory=memory)
        base_model = _base(form, values)
        if (filled.dataset, filled.trigger_word) != (open_id, dataset.trigger_word):
            preset = filled.preset if filled.preset and filled.preset.startswith((MINE, RUN)) else _same_pace(dataset, base_model, filled.pace)
            return form.open(workspace, open_id, preset, base_model, memory, form.touched(filled, values))
        presets = starting_points.list_choices(workspace, dataset.subject, base_model)
        filled = replace(filled, images=len(dataset.images))
        updated = {form.dataset: gr.update(choices=known), form.preset: gr.update(choices=presets), form.filled: filled.to_text()}
        return updated | form.summarize(workspace, filled, values, dataset)

    inputs = [chosen, form.memory, *form.inputs]
    chosen.change(refresh, inputs, form.outputs, **QUIET)
    return refresh, inputs


def _base(form: TrainForm, values: Sequence[Any]) -> str:
    return (form.form.by_path(values)[BASE] or "").strip()


def _same_pace(dataset: Dataset, base_model: str, pace: str) -> str:
    """The preset for this dataset and base, quick if `pace` is."""
    name = configs.fitting_preset(dataset.subject, base_model)
    quick = name + shipped_presets.QUICK
    return quick if pace == "quick" and quick in {each.name for each in configs.presets()} else name


def _wire_preset(studio: Studio, form: TrainForm, cards: SetupCards) -> None:
    def choose_preset(dataset_id: str, preset: str, memory: str, request: gr.Request, filled_with: str | None, *values: Any) -> dict:
        """A shipped preset is made for the base that is chosen; a saved one and that of a run have a base of their own."""
        filled = Filled.read(filled_with)
        base_model = "" if preset.startswith((MINE, RUN)) or not filled else _base(form, values)
        touched = form.touched(filled, values)
        dropped = touched.pop(REVISION, None) if not base_model else None
        try:
            opened = form.open(studio.workspace(request), dataset_id, preset, base_model, memory, touched)
        except StudioError as error:
            # A run that no longer exists, or a preset that cannot be read and may be removed.
            return {form.about: notice(str(error), "bad"), form.remove: gr.update(visible=preset.startswith(MINE))}
        return opened | _cleared(form, opened, touched, dropped)

    inputs = [form.dataset, form.preset, form.memory, *form.inputs]
    form.preset.input(choose_preset, inputs, form.outputs, **QUIET)
    wire_choice(cards.goal, form.preset, choose_preset, inputs, form.outputs)


def _cleared(form: TrainForm, filling: dict, touched: dict[str, Any], revision: str | None) -> dict:
    """Says that a revision was cleared, beside what was kept."""
    if not revision:
        return {}
    filled = Filled.read(filling[form.filled])
    kept = {path: touched[path] for path in filled.kept} if filled else {}
    return {form.kept: form.describe_kept(kept, f"The base revision {revision} belonged to the base before and was cleared.")}


def _wire_base(studio: Studio, form: TrainForm, cards: SetupCards) -> None:
    def choose_base(dataset_id: str, base_model: str | None, memory: str, request: gr.Request, filled_with: str, *values: Any) -> dict:
        """A base of another kind loads its own preset, because settings that suit one kind ruin the other; what the user changed is kept."""
        workspace, filled = studio.workspace(request), Filled.read(filled_with)
        dataset, base_model = Dataset.open(workspace, dataset_id), (base_model or "").strip()
        touched = form.touched(filled, values)
        revision = touched.pop(REVISION, None)
        if not filled or configs.fitting_preset(dataset.subject, base_model) != filled.base_preset:
            preset = _same_pace(dataset, base_model, filled.pace if filled else "best")
            opened = form.open(workspace, dataset_id, preset, base_model, memory, touched)
            return opened | _cleared(form, opened, touched, revision)
        known = families.detect(base_model)
        shown = form.form.by_path(values) | {BASE: base_model, REVISION: ""}
        filled = replace(filled, family=known.name if known else "", values=filled.values | {BASE: base_model, REVISION: ""}, kept=())
        changes = {
            form.about: describe_preset(shipped_presets.get(filled.base_preset)) + warnings(dataset, base_model),
            form.form.widgets[REVISION]: "",
            form.filled: filled.to_text(),
            form.kept: form.describe_kept({}, f"The base revision {revision} belonged to the base before and was cleared." if revision else ""),
        }
        return form.summarized(changes, workspace, shown, dataset)

    inputs = [form.dataset, form.base, form.memory, *form.inputs]
    form.base.input(choose_base, inputs, form.outputs, **QUIET)
    wire_choice(cards.base, form.base, choose_base, inputs, form.outputs)


def _wire_memory(studio: Studio, form: TrainForm, about_memory: gr.HTML) -> None:
    def choose_memory(dataset_id: str, memory: str, request: gr.Request, filled_with: str, *values: Any) -> dict:
        """Set what a GPU of this size needs, and the preset's values where it needs nothing; what the user changed stays."""
        workspace, filled = studio.workspace(request), Filled.read(filled_with)
        dataset, touched = Dataset.open(workspace, dataset_id), form.touched(filled, values)
        try:
            if not filled:
                raise StudioError("The form is still loading. Choose the GPU memory again in a moment.")
            if filled.preset:
                config = starting_points.build_config(workspace, dataset, filled.preset, *base_override(_base(form, values)), memory=memory)
            else:
                config = memory_overlays.fit(form.read(filled, values, dataset), memory)
        except StudioError as error:
            return {about_memory: notice(str(error), "bad")}
        needed = {path: form.form.widget_value(path, fields.get(config, path)) for path in memory_overlays.OWNED}
        kept = {path: touched[path] for path in memory_overlays.OWNED if path in touched and touched[path] != needed[path]}
        filled = replace(filled, values=filled.values | needed, kept=tuple(kept))
        shown = form.form.by_path(values) | needed | kept
        changes = {
            about_memory: notice(memory_overlays.get(memory).description) if memory else "",
            **{form.form.widgets[path]: shown[path] for path in memory_overlays.OWNED},
            form.filled: filled.to_text(),
            form.kept: form.describe_kept(kept),
        }
        return form.summarized(changes, workspace, shown, dataset)

    form.memory.input(choose_memory, [form.dataset, form.memory, *form.inputs], [about_memory, *form.outputs], **QUIET)


def _wire_kept(studio: Studio, form: TrainForm) -> None:
    @show_errors
    def use_preset(dataset_id: str, request: gr.Request, filled_with: str, *values: Any) -> dict:
        """Replace the kept settings by those of the preset."""
        workspace, filled = studio.workspace(request), Filled.read(filled_with)
        if not filled:
            return {form.kept: ""}
        own = {path: filled.values[path] for path in filled.kept}
        shown, filled = form.form.by_path(values) | own, replace(filled, kept=())
        changes = {
            **{form.form.widgets[path]: value for path, value in own.items()},
            form.filled: filled.to_text(),
            form.kept: "",
        }
        return form.summarized(changes, workspace, shown, Dataset.open(workspace, dataset_id))

    form.kept.use_preset(use_preset, [form.dataset, *form.inputs], form.outputs, **QUIET)
