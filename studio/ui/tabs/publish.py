"""The Publish tab: repository, visibility, licence and rights statement, beside a preview of the model card."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import gradio as gr

from studio.core.errors import StudioError
from studio.core.workspace import Workspace
from studio.jobs.queue import Job
from studio.runs import library
from studio.runs.run import Run
from studio.ui.components import run_card, run_state
from studio.ui.components.html import empty, html, notice, small
from studio.ui.components.templates import render
from studio.ui.form_drafts import DraftedForm
from studio.ui.studio import QUIET, Studio, show_errors
from studio.ui.tabs.publish_form import NOT_OPENED, PublishForm, build_form, build_request
from studio.ui.tabs.publish_licence import repo_name, run_id_of
from studio.ui.tabs.publish_send import build_send

TITLE = "Publish"

NOTHING = empty("Nothing to publish yet", "Train a LoRA first; a preview of its model card appears here.")


@dataclass(frozen=True)
class Publish:
    """`list_runs` gives `outputs` their values when the page loads; `drafted` are the fields that the browser keeps as drafts."""

    list_runs: Callable
    inputs: list[gr.components.Component]
    outputs: list[gr.components.Component]
    adapter: gr.Dropdown
    licence_touched: gr.State
    drafted: DraftedForm


@dataclass(frozen=True)
class Preview:
    """`update(*form.fields)` gives `shown` the model card."""

    update: Callable
    shown: list[gr.components.Component]


@dataclass(frozen=True)
class Choice:
    """Runs that can be published, with the one to preselect and why it is not the run that the Train tab shows."""

    runs: list[tuple[str, str]]
    ref: str | None
    reason: str


def publishable(workspace: Workspace) -> list[library.AdapterInfo]:
    """LoRAs of the owner's runs; only for them is enough known for a complete model card."""
    return [adapter for adapter in library.list_adapters(workspace) if adapter.source == "run"]


def choose(workspace: Workspace, jobs: dict[str, Job], looked_at: str | None, chosen: str | None, picked: bool = False) -> Choice:
    """Preselect the run that is looked at if it is finished, else keep `chosen`, else the newest finished run. One that the user `picked` stays."""
    conditions = {run.id: run_state.condition(run, jobs.get(run.id)) for run in Run.all(workspace)}
    adapters = publishable(workspace)
    finished = [each.ref for each in adapters if conditions[run_id_of(each.ref)].state == "finished"]
    listed = [(each.title if each.ref in finished else f"{each.title} (not finished)", each.ref) for each in adapters]
    refs = [ref for _, ref in listed]
    if picked and chosen in refs:
        return Choice(listed, chosen, "")
    looked_at = looked_at if looked_at in conditions else next(iter(conditions), None)
    if looked_at is None or f"run:{looked_at}" in finished:
        return Choice(listed, f"run:{looked_at}" if looked_at else None, "")
    words = f"“{Run.open(workspace, looked_at).title}” is not finished ({run_card.state_text(conditions[looked_at]).lower()})"
    if chosen in refs:
        return Choice(listed, chosen, f"{words}, so another run is chosen.")
    if finished:
        return Choice(listed, finished[0], f"{words}, so the newest finished run is chosen.")
    return Choice(listed, None, f"{words}.{' Choose a run in the list to publish it as it is.' if refs else ''}")


def _show_card(studio: Studio, owner: str, ref: str | None) -> str:
    """The card of the chosen run; empty without one."""
    if ref is None:
        return ""
    run = Run.open(studio.home.workspace(owner), run_id_of(ref))
    return run_card.show(run, run_state.condition(run, run_state.newest_jobs(studio, owner).get(run.id)))


def build(studio: Studio, rooms: gr.Tabs, job_states: gr.State, open_run: gr.State) -> Publish:
    """`job_states` changes when a job starts or ends, so that a run that has just finished can be chosen; `open_run` is the run that the Train
    tab shows."""
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

    def list_runs(chosen: str | None, picked: bool, name: str, proposed: str | None, looked_at: str | None, request: gr.Request) -> tuple:
        """List the runs and choose one; a repository name is proposed until one is typed. `looked_at` is the run that the Train tab shows."""
        owner, workspace = studio.owner(request), studio.workspace(request)
        choice = choose(workspace, run_state.newest_jobs(studio, owner), looked_at, chosen, picked)
        if not choice.runs:
            return gr.update(visible=True), gr.update(visible=True), gr.update(visible=False), *[gr.skip()] * 5, picked, looked_at
        shown = gr.update(visible=False), gr.update(visible=False), gr.update(visible=True)
        listed = gr.update(choices=choice.runs, value=choice.ref)
        about = _show_card(studio, owner, choice.ref), notice(choice.reason, "warn")
        if choice.ref is None or (name and name != proposed):
            return *shown, listed, gr.skip(), gr.skip(), *about, picked, looked_at
        proposed = repo_name(workspace, choice.ref)
        return *shown, listed, proposed, proposed, *about, picked, looked_at

    def list_again(request: gr.Request, followed: str | None, *values: Any) -> tuple:
        """After a change of jobs. While the page is being opened it does not show yet what is chosen, and this answer comes after that of the
        opening: the states, which the server keeps, are those of the opening by then, the fields are not."""
        chosen, picked, name, proposed, looked_at = values
        if followed == NOT_OPENED or (picked and chosen is None):
            return (gr.skip(),) * len(outputs)
        return list_runs(chosen, picked, name, proposed, looked_at, request)

    def follow(name: str, proposed: str | None, looked_at: str | None, followed: str | None, request: gr.Request) -> tuple:
        """Preselect the run that is looked at now. The page's opening has done so for its own."""
        if looked_at == followed or followed == NOT_OPENED:
            return (gr.skip(),) * len(outputs)
        return list_runs(None, False, name, proposed, looked_at, request)

    inputs = [form.adapter, form.picked, form.repo, form.proposed, open_run]
    outputs = [none, to_train, workbench, form.adapter, form.repo, form.proposed, form.card, form.reason, form.picked, form.followed]
    job_states.change(list_again, [form.followed, *inputs], outputs, **QUIET)
    open_run.change(follow, [form.repo, form.proposed, open_run, form.followed], outputs, **QUIET)
    return Publish(list_runs, inputs, outputs, form.adapter, form.licence.followed[0], form.drafted)


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
        return card_view.show(planned, run_id_of(values[0]), planned.facts.trained.steps)

    licence = form.licence
    changed = [each.change for each in (form.step, form.visibility, licence.licence, form.rights, form.update)]
    typed = [each.blur for each in (form.repo, licence.name, licence.link, form.title, form.description, form.stated_by, form.base_licence)]
    gr.on(changed + typed, preview, form.fields, [head, body], **QUIET)
    return Preview(preview, [head, body])


def wire_choice(studio: Studio, form: PublishForm, preview: Preview) -> None:
    """Update card, checkpoints, licence and repository name when another LoRA is chosen."""
    licence = form.licence

    @show_errors
    def propose_name(chosen: str | None, request: gr.Request) -> tuple:
        name = repo_name(studio.workspace(request), chosen) if chosen else gr.skip()
        return name, name, "", True

    def list_checkpoints(chosen: str | None, request: gr.Request, *licence_values) -> tuple:
        """The card and the checkpoints of the chosen run, the last one first, those without samples marked; and the details of the base's licence."""
        if not chosen:
            return "", gr.skip(), *[gr.skip()] * len(licence.following)
        run = Run.open(studio.workspace(request), run_id_of(chosen))
        card = _show_card(studio, studio.owner(request), chosen)
        sampled = set(run.samples())
        checkpoints = [(f"step {step:,}{'' if step in sampled else ' (no samples)'}", step) for step, _ in reversed(run.adapters())]
        best = next((step for _, step in checkpoints if step in sampled), checkpoints[0][1])
        followed = licence.follow(studio.workspace(request), chosen, *licence_values)
        return card, gr.update(choices=checkpoints, value=best, visible=len(checkpoints) > 1), *followed

    outputs = [form.card, form.step, *licence.following]
    listed = form.adapter.change(list_checkpoints, [form.adapter, *licence.followed], outputs, **QUIET)
    named = form.adapter.input(propose_name, form.adapter, [form.repo, form.proposed, form.reason, form.picked], **QUIET)
    for event in (listed, named):
        event.then(preview.update, form.fields, preview.shown, **QUIET)
