"""What the training costs, beside the button that starts it, and which settings do not fit."""

from collections.abc import Sequence
from typing import Any

import gradio as gr

from studio import families
from studio.core.errors import StudioError
from studio.datasets.dataset import Dataset
from studio.jobs import estimates
from studio.jobs.queue import Job
from studio.ui.components.following import END, Followed, Following
from studio.ui.studio import QUIET, Studio
from studio.ui.tabs.train_form import Filled, TrainForm


def wire_estimate(studio: Studio, form: TrainForm, rank: gr.components.Component) -> None:
    def summarize(dataset_id: str | None, request: gr.Request, filled_with: str | None, *values: Any) -> dict:
        workspace, filled = studio.workspace(request), Filled.read(filled_with)
        dataset = next((each for each in Dataset.all(workspace) if each.id == dataset_id), None)
        return form.summarize(workspace, filled, values, dataset)

    def measure(request: gr.Request, followed: Followed | None, filled_with: str | None, *values: Any) -> tuple:
        """Measure the memory in a job where it is not cached for this base and size: that needs torch, which this process never loads. What was
        being measured before is stopped: the user has moved on, through the cards with the arrow keys for example."""
        jobs = []
        try:
            config = form.read(Filled.read(filled_with), values)
            offer = families.offer(config.model.base_model)
            known = (offer and offer.shipped) or estimates.load_estimate(studio.home, config) or not estimates.can_estimate(config)
            jobs = [] if known else [studio.start_estimate(studio.owner(request), config)]
        except StudioError:
            # A number that is still being typed, which the summary reports; or a visitor at the limit of their jobs.
            pass
        for job_id in set(followed.ids if followed else ()) - {job.id for job in jobs}:
            studio.stop(studio.jobs.get(job_id))
        return following.begin(jobs) if jobs else END

    def show(_: object, jobs: Sequence[Job], request: gr.Request, dataset_id: str | None, *form_now: Any) -> tuple:
        """With the settings as they are by then."""
        if jobs[-1].unfinished:
            return (gr.skip(),) * len(form.summary)
        summary = summarize(dataset_id, request, *form_now)
        return tuple(summary.get(each, gr.skip()) for each in form.summary)

    inputs = [form.dataset, *form.inputs]
    following = Following(studio, show, form.summary, inputs)
    # What is typed while the form is filled is summarized again with what it was filled with.
    gr.on([form.filled.change, *(widget.input for widget in form.form.inputs)], summarize, inputs, form.summary, **QUIET)
    gr.on([rank.change, form.steps.change, form.base.change], measure, [following.followed, *form.inputs], following.state, **QUIET)
