"""Estimates beside the Train form: suggested steps, and time, file size and memory of the training."""

import gradio as gr

from studio import config as configs
from studio import families
from studio.config import TrainConfig
from studio.core.errors import StudioError
from studio.datasets.dataset import Dataset
from studio.jobs import estimates
from studio.runs import starting_points
from studio.ui.components.html import notice
from studio.ui.studio import QUIET, Studio
from studio.ui.tabs.train_form import TrainForm, render_estimate

BATCH_SETTINGS = ("training.train_batch_size", "training.gradient_accumulation_steps", "validation.pictures")
"""Settings that change how many steps are suggested."""
MEMORY_SETTINGS = ("training.train_batch_size", "training.optimizer", "training.ema_decay", "training.learning_rate")
"""Settings that change the memory of a training step or its cautions, besides rank and base."""
IMAGE_SETTINGS = ("dataset.resolution", "training.gradient_accumulation_steps")
"""Settings that change which images are cropped, enlarged or perhaps not used, besides base and steps."""


def wire_estimate(studio: Studio, form: TrainForm, rank: gr.components.Component) -> None:
    _wire_steps(studio, form)
    _wire_summary(studio, form, rank)


def _wire_steps(studio: Studio, form: TrainForm) -> None:
    def suggest_steps(
        dataset_id: str,
        preset: str | None,
        steps: float | None,
        suggested: int | None,
        family: str | None,
        base_model: str | None,
        request: gr.Request,
        *values: object,
    ) -> dict:
        """Fewer steps for a larger batch; a number that the user typed is kept."""
        if not preset or suggested is None or steps != suggested:
            return {form.suggested_steps: gr.skip()}
        workspace = studio.workspace(request)
        dataset = Dataset.open(workspace, dataset_id)
        try:
            config = form.read(family, base_model, values, dataset)
        except StudioError:
            # A number that is still being typed; Start reports it.
            return {form.suggested_steps: gr.skip()}
        again = configs.suggested_steps(config, len(dataset.images), starting_points.find(workspace, preset).pace)
        return form.suggest(dataset, again, again)

    events = [form.form.widgets[path].input for path in BATCH_SETTINGS]
    inputs = [form.dataset, form.preset, form.steps, form.suggested_steps, *form.inputs]
    gr.on(events, suggest_steps, inputs, [form.steps, form.suggested_steps], **QUIET)


def _wire_summary(studio: Studio, form: TrainForm, rank: gr.components.Component) -> None:
    def render(dataset_id: str | None, config: TrainConfig, request: gr.Request) -> str:
        workspace = studio.workspace(request)
        images = Dataset.open(workspace, dataset_id).images if dataset_id else ()
        return render_estimate(workspace, config, estimates.load_estimate(studio.home, config), images)

    def summarize(dataset_id: str | None, family: str | None, base_model: str | None, request: gr.Request, *values: object) -> str:
        try:
            return render(dataset_id, form.read(family, base_model, values), request)
        except StudioError as error:
            return notice(str(error), "bad")

    async def measure(dataset_id: str | None, family: str | None, base_model: str | None, request: gr.Request, *values: object) -> object:
        """Measure the memory in a job where it is not cached for this base and size: that needs torch, which this process never loads."""
        try:
            config = form.read(family, base_model, values)
            offer = families.offer(config.model.base_model)
            if (offer and offer.shipped) or estimates.load_estimate(studio.home, config) or not estimates.can_estimate(config):
                return gr.skip()
            await studio.wait_for(studio.start_estimate(studio.owner(request), config))
            return render(dataset_id, config, request)
        except StudioError:
            # A number that is still being typed, which the summary reports; or a visitor at the limit of their jobs.
            return gr.skip()

    events = [rank.change, form.steps.change, form.base.change]
    others = [form.form.widgets[path].input for path in (*MEMORY_SETTINGS, *IMAGE_SETTINGS)]
    inputs = [form.dataset, *form.inputs]
    gr.on([*events, *others], summarize, inputs, form.estimate, **QUIET)
    gr.on(events, measure, inputs, form.estimate, **QUIET)
