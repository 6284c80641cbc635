"""The page: frame, four tabs and job bar. It shows and controls; nothing here computes, and torch is never imported."""

import functools
from dataclasses import dataclass
from typing import Any

import gradio as gr
from starlette.middleware import Middleware
from starlette.requests import HTTPConnection

from studio import __version__, doctor
from studio.core.access import Access
from studio.core.errors import StudioError
from studio.core.workspace import Home
from studio.jobs.queue import Jobs
from studio.ui import files, gradio_scripts
from studio.ui.api import endpoints
from studio.ui.components import bases, damaged, history, job_bar, sample_sets
from studio.ui.components.generation import first_is_shipped
from studio.ui.components.html import html, panel
from studio.ui.components.removed import listing
from studio.ui.components.templates import render
from studio.ui.gate import Gate
from studio.ui.opening import Tabs, build_opening
from studio.ui.page import Page
from studio.ui.policy import Scope
from studio.ui.studio import QUIET, Studio
from studio.ui.tabs import dataset, generate, publish, train
from studio.ui.tabs.generate_history import KIND
from studio.ui.tabs.generate_stack import REMOVED, choices, own_runs
from studio.ui.theme import STYLES, theme
from studio.ui.waiting import PAGE_SLOTS, SEATS

LARGEST_UPLOAD = "2gb"
STEPWISE_KINDS = ("train", "caption", "import")
"""Kinds of job whose every step is shown on a tab."""


@dataclass(frozen=True)
class JobStates:
    """States that tabs listen to: `version` of the queue, `states` when a job starts or ends, `progress` when one moves."""

    version: gr.State
    states: gr.State
    progress: gr.State


def build_app(home: Home, access: Access) -> tuple[gr.Blocks, Studio]:
    """Build every tab and connect its handlers. A handler takes its caller's Workspace from the request, so one page serves all owners."""
    studio = Studio(home, access, Jobs(home.database))
    with Page(title="LoRA Studio", analytics_enabled=False, delete_cache=(3600, 86400)) as app:
        app.expects_oauth = access.oauth
        app.hidden_paths = studio.hidden_paths
        html(render("frame", "brand") + render("lightbox", "dialog"), elem_id="brand")
        # Paths are shown in local mode only.
        html(render("about", "corner", __version__, str(home.root) if access.mode == "local" else ""), elem_id="about")
        advice = html("", elem_id="advice")
        unreadable = damaged.build(studio)
        requested, chosen, open_run = gr.State(None), gr.State(None), gr.State(None)
        jobs = JobStates(gr.State(None), gr.State(None), gr.State(None))
        with gr.Tabs(elem_classes="rooms") as rooms:
            with gr.Tab(generate.TITLE, id="generate", elem_id="tab-generate"):
                generating = generate.build(studio, rooms, requested)
            with gr.Tab(dataset.TITLE, id="dataset", elem_id="tab-dataset"):
                dataset_tab, to_train = dataset.build(studio, rooms, chosen, jobs.progress, generating.strip, generating.samples)
            with gr.Tab(train.TITLE, id="train", elem_id="tab-train") as train_tab:
                training = train.build(studio, rooms, chosen, jobs.progress, requested, open_run)
            with gr.Tab(publish.TITLE, id="publish", elem_id="tab-publish"):
                publishing = publish.build(studio, rooms, jobs.states, open_run)
        removed = {"datasets": dataset_tab.removed, "runs": training.run.lists.removed, "presets": training.form.removed}
        removed |= {KIND: generating.removed, REMOVED: generating.removed_loras}
        damaged.wire_set_aside(studio, unreadable, removed)
        bar = job_bar.build(studio, rooms)
        endpoints.add(studio)
        poll_jobs(studio, app, jobs, bar)
        refresh_loras(studio, app, [jobs.states, training.run.renamed], generating, training.form.base)
        training.run.renamed.change(publishing.list_runs, publishing.inputs, publishing.outputs, **QUIET)
        train_tab.select(training.refresh, training.refresh_inputs, training.outputs, **QUIET)
        train_tab.select(**training.cards)
        tabs = Tabs(rooms, chosen, open_run, generating, dataset_tab, training, publishing)
        build_opening(studio, tabs, lambda opened: opened.then(training.run.show, training.run.inputs, training.run.outputs, **QUIET))
        to_train.click(lambda: (gr.Tabs(selected="train"), gr.Tabs(selected=train.SET_UP)), None, [rooms, training.places], **QUIET)
        bar.show_queue(lambda: gr.Tabs(selected=train.WATCH), None, training.places, **QUIET)
        if not first_is_shipped():
            app.load(**generating.generate)
        app.load(lambda: advise(home), None, advice, **QUIET)
    return app, studio


def poll_jobs(studio: Studio, app: Page, jobs: JobStates, bar: gr.HTML) -> None:
    """Update the job bar and the states of `jobs` on load and after a change of the queue; see static/js/changes.js."""

    def poll(version, states, progress, request: gr.Request):
        """All skipped while no job has changed."""
        now = studio.jobs.data_version()
        if now == version:
            return [gr.skip()] * 4
        owner = studio.owner(request)
        running = job_bar.running(studio, owner)
        # Running jobs are added because a long training is not among the newest after enough others.
        listed = [*studio.jobs.list(owner, kinds=job_bar.SLOW, limit=20), *running]
        new_states = tuple((job.id, job.state) for job in listed)
        new_progress = tuple((job.id, job.state, job.done, job.message) for job in listed if job.kind in STEPWISE_KINDS)
        shown = job_bar.show(studio.home.workspace(owner), running)
        return now, new_states if new_states != states else gr.skip(), new_progress if new_progress != progress else gr.skip(), shown

    inputs = [jobs.version, jobs.states, jobs.progress]
    panel("", ("changed",), elem_id="changes", elem_classes=["hidden-field"]).changed(poll, inputs, [*inputs, bar], **QUIET)
    app.load(poll, inputs, [*inputs, bar], **QUIET)


def refresh_loras(studio: Studio, app: Page, changes: list[gr.State], generating: generate.Generate, training_base: gr.Dropdown) -> None:
    """Update the lists of LoRAs and bases when a job starts or ends or a run is renamed; on load also the history."""

    def list_loras(request: gr.Request):
        workspace = studio.workspace(request)
        known = gr.update(choices=bases.choices(workspace))
        loras = choices(workspace)
        own = any(not ref.startswith("starter:") for _, ref in loras)
        cards = own_runs(studio, studio.owner(request))
        samples = "" if own else sample_sets.cards("Or begin with the sample images:")
        return render("generate", "head", own), samples, cards, gr.update(choices=loras), known, known

    def list_images(request: gr.Request):
        workspace = studio.workspace(request)
        return history.strip(workspace), listing(workspace, KIND), listing(workspace, REMOVED), *list_loras(request)

    listed = [generating.head, generating.samples, generating.own, generating.choices, generating.base, training_base]
    for changed in changes:
        changed.change(list_loras, None, listed, **QUIET)
    app.load(list_images, None, [generating.strip, generating.removed, generating.removed_loras, *listed], **QUIET)


def advise(home: Home) -> str:
    """Problems of this machine, each with the command that fixes it."""
    problems = [finding for finding in doctor.examine(home) if finding.level != "ok"]
    kinds = {"warn": "warn", "error": "bad"}
    return render("frame", "advice", [(kinds[each.level], each.message, each.fix) for each in problems])


def drafts_key(studio: Studio, scope: Scope) -> str:
    """The name for the caller's drafts. Empty, so that none are kept, without an owner (the browser keeps no cookie) or an identity (a full disk)."""
    try:
        return studio.home.drafts_key(studio.access.owner(HTTPConnection(scope)))
    except (StudioError, OSError):
        return ""


def launch_arguments(studio: Studio, browser: bool = False) -> dict[str, Any]:
    """Arguments of `Blocks.launch`: the theme, the gate in front, our own file routes, no run history."""
    access = studio.access
    drafts = functools.partial(drafts_key, studio)
    gate = Middleware(Gate, hosts=access.hosts, space=access.mode == "space", script=files.script_url(), drafts=drafts)
    return {
        "theme": theme(),
        "css_paths": STYLES,
        "server_name": access.server_name,
        "server_port": access.port,
        "inbrowser": browser,
        "run_history": False,
        # Node would serve the page around the gate, without its policy.
        "ssr_mode": False,
        "auth": access.check_login if access.mode == "password" else None,
        "auth_message": render("frame", "login"),
        "share": False,
        "show_error": False,
        # Slots of the queue, not threads: see Page.create_limiter.
        "max_threads": SEATS + PAGE_SLOTS,
        "max_file_size": LARGEST_UPLOAD,
        "footer_links": ["api"],
        "app_kwargs": {"middleware": [gate], "routes": [*files.routes(studio), *gradio_scripts.routes()]},
    }
