"""Settings of a training on the Train tab: filled from dataset, base and preset, and read back as one config."""

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

import gradio as gr

from studio import config as configs
from studio import families
from studio.config import Preset, TrainConfig, fields, suggestions
from studio.core.errors import StudioError
from studio.core.workspace import Home, Workspace
from studio.datasets.dataset import Dataset
from studio.jobs import estimates
from studio.runs import starting_points
from studio.ui.components import estimate, removed
from studio.ui.components.form import Form
from studio.ui.components.html import listed, notice, small
from studio.ui.components.templates import render
from studio.ui.tabs.dataset_choice import choose, trainable_choices

STEPS, ALPHA, RANK, BASE, REVISION = "training.max_train_steps", "lora.alpha", "lora.rank", "model.base_model", "model.revision"
SET_UP, WATCH = "setup", "watch"
"""Ids of the two places of the Train tab."""
NOT_OPENED = "opening"
"""What the hidden field `filled` contains until the page is opened, which fills the form."""
STEPS_HELP = "More come closer to your images; too many overfit."


@dataclass(frozen=True)
class Filled:
    """What the form was last filled with. A value that differs from it was changed by the user."""

    dataset: str
    trigger_word: str
    images: int
    base_preset: str
    """Name of the preset that fits the base that is shown."""
    family: str
    preset: str | None = None
    pace: str = "best"
    steps: int | None = None
    """Number of steps of an empty field; None: the number that the images suggest."""
    alpha_ratio: float = 1.0
    """alpha / rank of an empty alpha field."""
    values: dict[str, Any] = field(default_factory=dict)
    """Path -> value of the widget."""
    kept: tuple[str, ...] = ()
    """Settings that the user had changed and that were kept when the form was filled."""

    @classmethod
    def read(cls, text: str | None) -> "Filled | None":
        """From the hidden field of the page; None if nothing was filled."""
        try:
            found = json.loads(text or "null")
            return cls(**{**found, "kept": tuple(found["kept"])}) if found else None
        except (ValueError, TypeError, KeyError):
            return None

    def to_text(self) -> str:
        return json.dumps(asdict(self))


@dataclass(frozen=True)
class TrainForm:
    """The form's components and states. Handlers return {component: value} for what changes."""

    home: Home
    form: Form[TrainConfig]
    no_dataset: gr.HTML
    to_dataset: gr.Button
    settings: gr.Column
    dataset: gr.Dropdown
    preset: gr.Dropdown
    about: gr.HTML
    kept: gr.HTML
    costs: gr.HTML
    """One line: steps, time, file size, memory; or why the training cannot start."""
    estimate: gr.HTML
    """What explains that line, and cautions."""
    errors: gr.HTML
    start: gr.Button
    memory: gr.Dropdown
    remove: gr.Button
    removed: gr.HTML
    filled: gr.Textbox
    """Hidden field with a Filled. It lies in the page beside the widgets, so that a handler gets both as they were at one moment; a gr.State would
    already belong to the next filling when a second event of the same choice is handled."""

    @property
    def base(self) -> gr.components.Component:
        return self.form.widgets[BASE]

    @property
    def steps(self) -> gr.components.Component:
        return self.form.widgets[STEPS]

    @property
    def alpha(self) -> gr.components.Component:
        return self.form.widgets[ALPHA]

    @property
    def summary(self) -> list:
        """Everything that `summarize` sets."""
        return [self.costs, self.estimate, self.errors, self.start, self.steps, self.alpha]

    @property
    def outputs(self) -> list:
        """Everything that `fill` sets."""
        parts = [
            self.no_dataset,
            self.to_dataset,
            self.settings,
            self.dataset,
            self.preset,
            self.about,
            self.kept,
            self.costs,
            self.estimate,
            self.errors,
        ]
        return [*parts, self.start, self.remove, self.removed, self.filled, *self.form.inputs]

    @property
    def inputs(self) -> list:
        """What `read` needs: what the form was filled with, then every setting."""
        return [self.filled, *self.form.inputs]

    def touched(self, filled: Filled | None, values: Sequence[Any]) -> dict[str, Any]:
        """Path -> value of each setting that the user changed since the form was filled, except the base."""
        if not filled or not filled.values:
            return {}
        changed = {path: value for path, value in self.form.by_path(values).items() if _plain(value) != _plain(filled.values.get(path))}
        return {path: value for path, value in changed.items() if path != BASE}

    def fill(
        self,
        workspace: Workspace,
        dataset: Dataset,
        chosen: Preset | None,
        config: TrainConfig,
        about: str = "",
        touched: dict[str, Any] | None = None,
    ) -> dict:
        """Values of `outputs` for this config. `about` replaces the preset's description; `touched` are settings that the user changed, which stay
        as they are."""
        name = chosen.name if chosen else None
        shown = dict(zip(self.form.widgets, self.form.write(config)))
        if chosen or config.lora.alpha == config.lora.rank:
            shown[ALPHA] = None
        if chosen and chosen.suggests_steps:
            shown[STEPS] = None
        kept = {path: value for path, value in (touched or {}).items() if _plain(value) != _plain(shown[path])}
        filled = Filled(
            dataset=dataset.id,
            trigger_word=dataset.trigger_word,
            images=len(dataset.images),
            base_preset=configs.fitting_preset(dataset.subject, config.model.base_model),
            family=config.model.family,
            preset=name,
            pace=chosen.pace if chosen else "best",
            steps=None if chosen is None or chosen.suggests_steps else config.training.max_train_steps,
            alpha_ratio=config.lora.scale if chosen else 1.0,
            values=shown,
            kept=tuple(kept),
        )
        values = shown | kept
        changes = {
            **{widget: values[path] for path, widget in self.form.widgets.items()},
            self.no_dataset: gr.update(visible=False),
            self.to_dataset: gr.update(visible=False),
            self.settings: gr.update(visible=True),
            self.dataset: gr.update(choices=trainable_choices(workspace), value=dataset.id),
            self.preset: gr.update(choices=starting_points.list_choices(workspace, dataset.subject, config.model.base_model), value=name),
            self.about: (about or describe_preset(chosen)) + warnings(dataset, config.model.base_model),
            self.kept: self.describe_kept(kept),
            self.remove: gr.update(visible=name is not None and name.startswith(starting_points.MINE)),
            self.removed: removed.listing(workspace, "presets"),
            self.filled: filled.to_text(),
        }
        return self.summarized(changes, workspace, values, dataset)

    def summarized(self, changes: dict, workspace: Workspace, values: dict[str, Any], dataset: Dataset) -> dict:
        """These changes of the page with the summary that follows; `values`: path -> value of every widget after them."""
        summary = self.summarize(workspace, Filled.read(changes[self.filled]), list(values.values()), dataset)
        both = {
            widget: {**summary[widget], "value": changes[widget]} for widget in (self.steps, self.alpha) if widget in changes and widget in summary
        }
        return changes | summary | both

    def describe_kept(self, kept: dict[str, Any], note: str = "") -> str:
        """One line: which settings stay as the user changed them, with a button for the others."""
        named = [f"{self.form.leaves[path].title}{_short(value)}" for path, value in kept.items()]
        return render("train", "kept", named, note) if named or note else ""

    def open(
        self,
        workspace: Workspace,
        dataset_id: str | None,
        preset: str | None = None,
        base_model: str = "",
        memory: str = "",
        touched: dict[str, Any] | None = None,
    ) -> dict:
        """Filled for this dataset and preset (empty: the one that fits). A base that the user chose is kept, and so are the settings in `touched`,
        except a revision, which belongs to the base before."""
        dataset_id = choose(trainable_choices(workspace), dataset_id)
        if dataset_id is None:
            hidden = gr.update(visible=False)
            return {self.no_dataset: gr.update(visible=True), self.to_dataset: gr.update(visible=True), self.settings: hidden, self.filled: None}
        dataset = Dataset.open(workspace, dataset_id)
        chosen = starting_points.find(workspace, preset or configs.fitting_preset(dataset.subject, base_model))
        config = starting_points.build_config(workspace, dataset, chosen.name, *base_override(base_model), memory=memory or "")
        return self.fill(workspace, dataset, chosen, config, touched=touched)

    def read(self, filled: Filled | None, values: Sequence[Any], dataset: Dataset | None = None) -> TrainConfig:
        """The form's config, for a dataset if one is given; InvalidSettings names each setting that does not fit. Empty steps and an empty alpha are
        computed here, from the images and the rank as they are now, so that they cannot be out of date."""
        found = self.form.by_path(values)
        known = families.detect((found[BASE] or "").strip())
        extra: dict[str, Any] = {"model__family": known.name if known else filled.family if filled else ""}
        if dataset:
            extra |= {"dataset__id": dataset.id, "dataset__subject": dataset.subject, "dataset__trigger_word": dataset.trigger_word}
        if found[ALPHA] is None and filled and isinstance(found[RANK], int | float):
            extra["lora__alpha"] = found[RANK] * filled.alpha_ratio
        if found[STEPS] is None and filled:
            # A number that fits; the suggestion needs the batch size of a valid config.
            extra["training__max_train_steps"] = filled.steps or suggestions.FEWEST_STEPS
        config = self.form.read(list(values), **extra)
        if found[STEPS] is None and filled and filled.steps is None:
            images = len(dataset.images) if dataset else filled.images
            config = fields.replace(config, {STEPS: configs.suggested_steps(config, images, filled.pace)})
        return config

    def summarize(self, workspace: Workspace, filled: Filled | None, values: Sequence[Any], dataset: Dataset | None) -> dict:
        """Values of `summary`: what the training costs, with the memory if it was measured before, or what prevents it; and the numbers that apply
        where steps or alpha are empty."""
        try:
            config = self.read(filled, values, dataset)
        except StudioError as error:
            found = error.problems if isinstance(error, fields.InvalidSettings) else {}
            wrong = {path: text for path, text in found.items() if path in self.form.widgets}
            named = {self.form.widgets[path].elem_id: text for path, text in wrong.items()}
            reason = f"Correct {listed([self.form.leaves[path].title for path in wrong])} first." if wrong else str(error)
            return {
                self.costs: render("train", "blocked", reason),
                self.estimate: "",
                self.errors: render("train", "errors", named),
                self.start: gr.update(interactive=False),
            }
        images = dataset.images if dataset else ()
        summary = estimate.summarize(workspace, config, estimates.load_estimate(self.home, config), images)
        reason, source = STEPS_HELP, "as in the preset" if filled and filled.steps else "suggested"
        if filled and filled.steps is None and filled.preset:
            count = len(images) if dataset else filled.images
            reason = suggestions.explain_steps(count, configs.suggested_steps(config, count, filled.pace))
        return {
            self.costs: render("train", "costs", summary.parts),
            self.estimate: render("train", "estimate", summary.notes, summary.cautions),
            self.errors: "",
            self.start: gr.update(interactive=True),
            self.steps: gr.update(placeholder=f"{config.training.max_train_steps:,} {source}", info=reason),
            self.alpha: gr.update(placeholder=f"{config.lora.filled_alpha:g}"),
        }


def _plain(value: Any) -> Any:
    """An empty field is None, whichever way the page sends it."""
    return None if value == "" else value


def _short(value: Any) -> str:
    """A number or a word for one line; longer texts are named only."""
    if value in (None, ""):
        return " (empty)"
    if isinstance(value, bool):
        return " on" if value else " off"
    if isinstance(value, int | float):
        return f" {value:g}" if isinstance(value, float) else f" {value:,}"
    return f" {value}" if len(str(value)) <= 20 and "\n" not in str(value) else ""


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
