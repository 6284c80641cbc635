"""Settings of a training on the Train tab: filled from dataset, base and preset, and read back as one config."""

import json
from collections.abc import Sequence
from dataclasses import dataclass

import gradio as gr

from studio import config as configs
from studio import families
from studio.config import Preset, TrainConfig, suggestions
from studio.core.workspace import Workspace
from studio.datasets.dataset import Dataset, DatasetImage
from studio.jobs.estimates import Estimate
from studio.runs import starting_points
from studio.ui.components import estimate, removed
from studio.ui.components.form import Form
from studio.ui.components.html import notice, small
from studio.ui.components.templates import render
from studio.ui.tabs.dataset_choice import choose, trainable_choices

STEPS_HELP = "More come closer to your images; too many overfit."


@dataclass(frozen=True)
class TrainForm:
    """The form's components and states. Handlers return {component: value} for what changes."""

    form: Form[TrainConfig]
    no_dataset: gr.HTML
    to_dataset: gr.Button
    settings: gr.Column
    dataset: gr.Dropdown
    preset: gr.Dropdown
    about: gr.HTML
    estimate: gr.HTML
    memory: gr.Dropdown
    remove: gr.Button
    removed: gr.HTML
    alpha_ratio: gr.State
    """alpha / rank until the user types an alpha, then None."""
    filled_for: gr.State
    """(dataset, trigger word, number of images) of the values that are shown."""
    base_preset: gr.State
    """Name of the preset that fits the base that is shown."""
    suggested_steps: gr.State
    """The suggested number of steps; None where the preset fixes it."""
    family: gr.State

    @property
    def base(self) -> gr.components.Component:
        return self.form.widgets["model.base_model"]

    @property
    def steps(self) -> gr.components.Component:
        return self.form.widgets["training.max_train_steps"]

    @property
    def outputs(self) -> list:
        """Everything that `fill` sets."""
        parts = [self.no_dataset, self.to_dataset, self.settings, self.dataset, self.preset, self.about, self.estimate, self.remove, self.removed]
        return [*parts, self.alpha_ratio, self.filled_for, self.base_preset, self.suggested_steps, self.family, *self.form.inputs]

    @property
    def inputs(self) -> list:
        """What `read` and most handlers need: the family and the base, then every setting."""
        return [self.family, self.base, *self.form.inputs]

    def fill(self, workspace: Workspace, dataset: Dataset, chosen: Preset | None, config: TrainConfig, about: str = "") -> dict:
        """Values of `outputs` for this config. `about` replaces the preset's description."""
        suggested = config.training.max_train_steps if chosen and chosen.suggests_steps else None
        presets = starting_points.list_choices(workspace, dataset.subject, config.model.base_model)
        name = chosen.name if chosen else None
        return {
            **dict(zip(self.form.inputs, self.form.write(config))),
            self.no_dataset: gr.update(visible=False),
            self.to_dataset: gr.update(visible=False),
            self.settings: gr.update(visible=True),
            self.dataset: gr.update(choices=trainable_choices(workspace), value=dataset.id),
            self.preset: gr.update(choices=presets, value=name),
            self.about: (about or describe_preset(chosen)) + warnings(dataset, config.model.base_model),
            self.estimate: render_estimate(workspace, config, images=dataset.images),
            self.remove: gr.update(visible=name is not None and name.startswith(starting_points.MINE)),
            self.removed: removed.listing(workspace, "presets"),
            self.alpha_ratio: config.lora.scale,
            self.filled_for: (dataset.id, dataset.trigger_word, len(dataset.images)),
            self.base_preset: configs.fitting_preset(dataset.subject, config.model.base_model),
            **self.suggest(dataset, config.training.max_train_steps, suggested),
            self.family: config.model.family,
        }

    def suggest(self, dataset: Dataset, steps: int, suggested: int | None) -> dict:
        """The number of steps, with the reason for it as help."""
        reason = STEPS_HELP if suggested is None else suggestions.explain_steps(len(dataset.images), suggested)
        return {self.steps: gr.update(value=steps, info=reason), self.suggested_steps: suggested}

    def open(self, workspace: Workspace, dataset_id: str | None, preset: str | None = None, base_model: str = "", memory: str = "") -> dict:
        """Filled for this dataset and preset (empty: the one that fits). A base that the user chose is kept."""
        dataset_id = choose(trainable_choices(workspace), dataset_id)
        if dataset_id is None:
            hidden = gr.update(visible=False)
            return {self.no_dataset: gr.update(visible=True), self.to_dataset: gr.update(visible=True), self.settings: hidden, self.filled_for: None}
        dataset = Dataset.open(workspace, dataset_id)
        chosen = starting_points.find(workspace, preset or configs.fitting_preset(dataset.subject, base_model))
        config = starting_points.build_config(workspace, dataset, chosen.name, *base_override(base_model), memory=memory or "")
        return self.fill(workspace, dataset, chosen, config)

    def read(self, family: str | None, base_model: str | None, values: tuple, dataset: Dataset | None = None) -> TrainConfig:
        """The form's config, for a dataset if one is given; a StudioError names the setting that does not fit."""
        known = families.detect((base_model or "").strip())
        extra = {"model__family": known.name if known else family or ""}
        if dataset:
            extra |= {"dataset__id": dataset.id, "dataset__subject": dataset.subject, "dataset__trigger_word": dataset.trigger_word}
        return self.form.read(list(values), **extra)


def base_override(base_model: str | None) -> list[str]:
    """A base that the user chose, as an override; quoted, because the name of a folder may contain anything."""
    return [f"model.base_model={json.dumps(base_model)}"] if base_model else []


def describe_preset(preset: Preset | None) -> str:
    """What the preset is for, and whether its values were measured."""
    if preset is None:
        return ""
    source = "" if preset.name.startswith((starting_points.MINE, starting_points.RUN)) else f" Its values are {preset.measured}."
    return small(preset.description + source)


def warnings(dataset: Dataset, base_model: str) -> str:
    """What will not work as expected."""
    text = ""
    if not dataset.trigger_word:
        text += notice(
            "This dataset has no trigger word. Training works, but no word in a prompt activates the LoRA. Set one under Images & captions.", "warn"
        )
    known = families.offer(base_model)
    if known and known.shapes_only and any(image.looks_like_photo for image in dataset.images):
        text += notice(
            f"These images look like photographs, and {known.name} generates simple shapes only. Choose another base, for example SD 1.5.", "warn"
        )
    return text


def render_estimate(workspace: Workspace, config: TrainConfig, known: Estimate | None = None, images: Sequence[DatasetImage] = ()) -> str:
    summary = estimate.summarize(workspace, config, known, images)
    return render("train", "estimate", summary.line, summary.notes, summary.cautions)
