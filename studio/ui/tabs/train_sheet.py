"""The settings of a training as the Train tab shows them: filled from pictures, base and goal, and read back as one config."""

import json
from dataclasses import dataclass

import gradio as gr

from studio import config as configs
from studio import families
from studio.config import Preset, TrainConfig, suggestions
from studio.core.workspace import Workspace
from studio.datasets.dataset import Dataset
from studio.jobs.estimates import Estimate
from studio.runs import starting_points
from studio.ui.components import estimate, removed
from studio.ui.components.form import Form
from studio.ui.components.html import counted, notice, small
from studio.ui.components.templates import render

STEPS_HELP = "More comes closer to your pictures, too many copy them."


@dataclass(frozen=True)
class Sheet:
    """The components, and the states that stand behind them. Handlers return {component: value} for what changes."""

    form: Form
    none_yet: gr.HTML
    to_pictures: gr.Button
    settings: gr.Column
    pictures: gr.Dropdown
    goal: gr.Dropdown
    about: gr.HTML
    size: gr.HTML
    card: gr.Dropdown
    remove: gr.Button
    gone: gr.HTML
    follows: gr.State
    """alpha / rank for as long as nobody typed an alpha, then None."""
    filled_for: gr.State
    """(dataset, trigger word, number of pictures) of what is shown."""
    numbers_for: gr.State
    """The preset whose numbers fit the base that is shown."""
    suggestion: gr.State
    """The number of steps that was suggested; None where the goal says its own."""
    family: gr.State

    @property
    def base(self) -> gr.components.Component:
        return self.form.widgets["model.base_model"]

    @property
    def steps(self) -> gr.components.Component:
        return self.form.widgets["training.max_train_steps"]

    @property
    def filling(self) -> list:
        """Everything that `fill` gives a value."""
        parts = [self.none_yet, self.to_pictures, self.settings, self.pictures, self.goal, self.about, self.size, self.remove, self.gone]
        return [*parts, self.follows, self.filled_for, self.numbers_for, self.suggestion, self.family, *self.form.inputs]

    @property
    def seen(self) -> list:
        """What `read` and most handlers need: the base and the family behind it, then every setting."""
        return [self.family, self.base, *self.form.inputs]

    def fill(self, workspace: Workspace, dataset: Dataset, chosen: Preset | None, config: TrainConfig, told: str = "") -> dict:
        """Everything for this config. `told` stands where the goal's own words would."""
        proposed = config.training.max_train_steps if chosen and chosen.suggests_steps else None
        return {
            **dict(zip(self.form.inputs, self.form.write(config))),
            self.none_yet: gr.update(visible=False),
            self.to_pictures: gr.update(visible=False),
            self.settings: gr.update(visible=True),
            self.pictures: gr.update(choices=datasets(workspace), value=dataset.id),
            self.goal: gr.update(
                choices=starting_points.list_choices(workspace, dataset.subject, config.model.base_model), value=chosen.name if chosen else None
            ),
            self.about: (told or introduce(chosen)) + warn(dataset, config.model.base_model),
            self.size: estimated(workspace, config),
            self.remove: gr.update(visible=bool(chosen) and chosen.name.startswith(starting_points.MINE)),
            self.gone: removed.listing(workspace, "presets"),
            self.follows: config.lora.scale,
            self.filled_for: (dataset.id, dataset.trigger_word, len(dataset.images)),
            self.numbers_for: configs.fitting_preset(dataset.subject, config.model.base_model),
            **self.propose(dataset, config.training.max_train_steps, proposed),
            self.family: config.model.family,
        }

    def propose(self, dataset: Dataset, steps: int, proposed: int | None) -> dict:
        """A number of steps, and why it stands there."""
        why = STEPS_HELP if proposed is None else suggestions.explain_steps(len(dataset.images), proposed)
        return {self.steps: gr.update(value=steps, info=why), self.suggestion: proposed}

    def open(self, workspace: Workspace, dataset_id: str | None, goal: str | None = None, base_model: str = "", card: str = "") -> dict:
        """Filled for these pictures and this goal (empty: the fitting one); a base that a person chose stays theirs."""
        known = [each for _, each in datasets(workspace)]
        dataset_id = dataset_id if dataset_id in known else known[0] if known else None
        if dataset_id is None:
            hidden = gr.update(visible=False)
            return {self.none_yet: gr.update(visible=True), self.to_pictures: gr.update(visible=True), self.settings: hidden, self.filled_for: None}
        dataset = Dataset.open(workspace, dataset_id)
        chosen = starting_points.find(workspace, goal or configs.fitting_preset(dataset.subject, base_model))
        return self.fill(
            workspace, dataset, chosen, starting_points.build_config(workspace, dataset, chosen.name, *of_base(base_model), memory=card or "")
        )

    def read(self, family: str | None, base_model: str | None, values: tuple, dataset: Dataset | None = None) -> TrainConfig:
        """The config that the sheet spells, for the pictures it is about; a StudioError says which setting does not fit."""
        known = families.detect((base_model or "").strip())
        also = {"model__family": known.name if known else family or ""}
        if dataset:
            also |= {"dataset__id": dataset.id, "dataset__subject": dataset.subject, "dataset__trigger_word": dataset.trigger_word}
        return self.form.read(list(values), **also)


def datasets(workspace: Workspace) -> list[tuple[str, str]]:
    return [(f"{d.title} ({counted(len(d.images), 'picture')})", d.id) for d in Dataset.all(workspace) if d.images]


def of_base(base_model: str | None) -> list[str]:
    """A base that a person chose, as an override; quoted, since a folder may be called anything."""
    return [f"model.base_model={json.dumps(base_model)}"] if base_model else []


def introduce(preset: Preset | None) -> str:
    """What the goal is for, and where its numbers come from."""
    if preset is None:
        return ""
    source = "" if preset.name.startswith((starting_points.MINE, starting_points.RUN)) else f" Its numbers are {preset.measured}."
    return small(preset.description + source)


def warn(dataset: Dataset, base_model: str) -> str:
    """What will not work as expected."""
    words = ""
    if not dataset.trigger_word:
        words += notice(
            "This dataset has no trigger word. It learns all the same, but nothing calls the LoRA by name; set one under Pictures & captions.", "warn"
        )
    known = families.offer(base_model)
    if known and known.shapes_only and any(picture.looks_like_photo for picture in dataset.images):
        words += notice(
            f"These look like photographs, and {known.name} draws simple shapes only. Choose another base, such as Stable Diffusion 1.5.", "warn"
        )
    return words


def estimated(workspace: Workspace, config: TrainConfig, known: Estimate | None = None) -> str:
    said = estimate.said(workspace, config, known)
    return render("train", "estimate", said.line, said.notes, said.cautions)
