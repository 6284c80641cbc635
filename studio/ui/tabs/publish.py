"""The Publish tab: repository, visibility, licence and rights statement, beside a preview of the model card."""

from collections.abc import Callable
from dataclasses import dataclass

import gradio as gr

from studio.core.errors import StudioError
from studio.core.workspace import Workspace
from studio.runs import library
from studio.runs.run import Run
from studio.ui.components.html import empty, html, notice, small
from studio.ui.components.templates import render
from studio.ui.form_drafts import DraftedForm
from studio.ui.studio import QUIET, Studio, show_errors
from studio.ui.tabs.publish_form import PublishForm, build_form, build_request
from studio.ui.tabs.publish_licence import repo_name
from studio.ui.tabs.publish_send import build_send

TITLE = "Publish"

NOTHING = empty("Nothing to publish yet", "Train a LoRA first; a preview of its model card appears here.")


@dataclass(frozen=True)
class Publish:
    """`list_runs(run, repository name, request)` gives `outputs` their values when the page loads; `drafted` are the fields that the browser keeps
    as drafts."""

    list_runs: Callable
    outputs: list[gr.components.Component]
    adapter: gr.Dropdown
    licence_touched: gr.State
    drafted: DraftedForm


@dataclass(frozen=True)
class Preview:
    """`update(*form.fields)` gives `shown` the model card."""

    update: Callable
    shown: list[gr.components.Component]


def publishable(workspace: Workspace) -> list[tuple[str, str]]:
    """The owner's runs; only for them is enough known for a complete model card."""
    return [(adapter.title, adapter.ref) for adapter in library.list_adapters(workspace) if adapter.source == "run"]


def build(studio: Studio, rooms: gr.Tabs, job_states: gr.State) -> Publish:
    """`job_states` changes when a job starts or ends, so that a run that has just finished can be chosen."""
    html(render("publish", "head"))
    none = html(NOTHING)
    to_train = gr.Button("Go to Train", variant="primary", size="md", scale=0)
    to_train.click(lambda: gr.Tabs(selected="train"), None, rooms, **QUIET)
    with gr.Row(elem_classes="workbench", visible=False) as workbench:
        with gr.Column(elem_classes="pane", scale=5, min_width=320):
            form = build_form(studio)
            build_send(studio, form)
        with gr.Column(elem_classes="pane card", scale=7, min_width=320):
            preview = build_preview(studio, form)
    wire_choice(studio, form, preview)

    def list_runs(chosen: str | None, name: str, request: gr.Request) -> tuple:
        """List the runs; the newest is chosen, and a repository name proposed."""
        known = publishable(studio.workspace(request))
        refs = [ref for _, ref in known]
        if not refs:
            return gr.update(visible=True), gr.update(visible=True), gr.update(visible=False), gr.skip(), gr.skip()
        value = chosen if chosen in refs else refs[0]
        proposed = name or repo_name(studio.workspace(request), value)
        return gr.update(visible=False), gr.update(visible=False), gr.update(visible=True), gr.update(choices=known, value=value), proposed

    inputs, outputs = [form.adapter, form.repo], [none, to_train, workbench, form.adapter, form.repo]
    job_states.change(list_runs, inputs, outputs, **QUIET)
    return Publish(list_runs, outputs, form.adapter, form.licence.followed[0], form.drafted)


def build_preview(studio: Studio, form: PublishForm) -> Preview:
    html(small("Preview of the model card"))
    head = html("", elem_id="card-head")
    body = gr.Markdown("", elem_id="card-body", sanitize_html=True, line_breaks=False)

    def preview(request: gr.Request, *values) -> tuple:
        """Exactly the text that will be sent; while a field is invalid, the last valid text stays."""
        if not values[0]:
            return gr.skip(), gr.skip()
        from studio.core import hashes
        from studio.publishing import plan
        from studio.ui.components import card_view

        workspace = studio.workspace(request)
        try:
            planned = plan.plan(workspace, build_request(*values), hashes.known)
        except StudioError as error:
            return notice(str(error), "warn"), gr.skip()
        run_id = values[0].removeprefix("run:")
        return card_view.show(planned, run_id, planned.facts.trained.steps)

    licence = form.licence
    changed = [each.change for each in (form.step, form.visibility, licence.licence, form.rights, form.update)]
    typed = [each.blur for each in (form.repo, licence.name, licence.link, form.title, form.description, form.stated_by, form.base_licence)]
    gr.on(changed + typed, preview, form.fields, [head, body], **QUIET)
    return Preview(preview, [head, body])


def wire_choice(studio: Studio, form: PublishForm, preview: Preview) -> None:
    """Update checkpoints, licence and repository name when another LoRA is chosen."""
    licence = form.licence

    @show_errors
    def propose_name(chosen: str | None, request: gr.Request) -> str:
        return repo_name(studio.workspace(request), chosen) if chosen else gr.skip()

    def list_checkpoints(chosen: str | None, request: gr.Request, *licence_values) -> tuple:
        """The checkpoints of the chosen run, the last one first, those without samples marked; and the details of the base's licence."""
        if not chosen:
            return gr.skip(), *[gr.skip()] * len(licence.following)
        run = Run.open(studio.workspace(request), chosen.removeprefix("run:"))
        sampled = set(run.samples())
        checkpoints = [(f"step {step:,}{'' if step in sampled else ' (no samples)'}", step) for step, _ in reversed(run.adapters())]
        best = next((step for _, step in checkpoints if step in sampled), checkpoints[0][1])
        followed = licence.follow(studio.workspace(request), chosen, *licence_values)
        return gr.update(choices=checkpoints, value=best, visible=len(checkpoints) > 1), *followed

    outputs = [form.step, *licence.following]
    listed = form.adapter.change(list_checkpoints, [form.adapter, *licence.followed], outputs, **QUIET)
    named = form.adapter.input(propose_name, form.adapter, form.repo, **QUIET)
    for event in (listed, named):
        event.then(preview.update, form.fields, preview.shown, **QUIET)
