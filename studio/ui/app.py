"""The page: frame, four tabs and job bar. It shows and controls; nothing here computes, and torch is never imported."""

from dataclasses import dataclass
from typing import Any

import gradio as gr
from starlette.middleware import Middleware

from studio import doctor
from studio.core.access import Access
from studio.core.workspace import Home
from studio.jobs.queue import Jobs
from studio.ui import files
from studio.ui.api import endpoints
from studio.ui.components import bases, history, job_bar
from studio.ui.components.generation import first_is_shipped
from studio.ui.components.html import html
from studio.ui.components.templates import render
from studio.ui.gate import Gate
from studio.ui.page import Page
from studio.ui.studio import QUIET, Studio
from studio.ui.tabs import dataset, generate, publish, train
from studio.ui.tabs.generate_stack import choices, own_runs
from studio.ui.theme import STYLES, theme

POLL_SECONDS = 1
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
        html(render("frame", "brand"), elem_id="brand")
        advice = html("", elem_id="advice")
        requested, chosen, open_run = gr.State(None), gr.State(None), gr.State(None)
        jobs = JobStates(gr.State(None), gr.State(None), gr.State(None))
        with gr.Tabs(elem_classes="rooms") as rooms:
            with gr.Tab(generate.TITLE, id="generate"):
                generating = generate.build(studio, rooms, requested)
            with gr.Tab(dataset.TITLE, id="dataset"):
                dataset_tab = dataset.build(studio, rooms, chosen, jobs.progress)
            with gr.Tab(train.TITLE, id="train") as train_tab:
                training = train.build(studio, rooms, chosen, jobs.progress, requested, open_run)
            with gr.Tab(publish.TITLE, id="publish"):
                publishing = publish.build(studio, rooms, jobs.states, open_run)
        bar = job_bar.build(studio, rooms)
        endpoints.add(studio)
        poll_jobs(studio, app, jobs, bar)
        training_base = next(each for each in training.outputs if each.elem_id == "base")
        refresh_loras(studio, app, [jobs.states, training.run.renamed], generating, training_base)
        training.run.renamed.change(publishing.list_runs, publishing.inputs, publishing.outputs, **QUIET)
        app.load(dataset_tab.load, chosen, dataset_tab.opened, **QUIET)
        app.load(training.load, chosen, training.outputs, **QUIET)
        train_tab.select(training.refresh, training.refresh_inputs, training.outputs, **QUIET)
        app.load(training.run.find_running, None, open_run, **QUIET).then(training.run.show, training.run.inputs, training.run.outputs, **QUIET)
        app.load(publishing.list_runs, publishing.inputs, publishing.outputs, **QUIET)
        if not first_is_shipped():
            app.load(**generating.generate)
        app.load(lambda: advise(home), None, advice, **QUIET)
    return app, studio


def poll_jobs(studio: Studio, app: Page, jobs: JobStates, bar: gr.HTML) -> None:
    """Update the job bar and the states of `jobs` on load and once a second."""

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
    gr.Timer(POLL_SECONDS).tick(poll, inputs, [*inputs, bar], **QUIET)
    app.load(poll, inputs, [*inputs, bar], **QUIET)


def refresh_loras(studio: Studio, app: Page, changes: list[gr.State], generating: generate.Generate, training_base: gr.Dropdown) -> None:
    """Update the lists of LoRAs and bases when a job starts or ends or a run is renamed; on load also the history."""

    def list_loras(request: gr.Request):
        workspace = studio.workspace(request)
        known = gr.update(choices=bases.choices(workspace))
        return own_runs(studio, studio.owner(request)), gr.update(choices=choices(workspace)), known, known

    def list_images(request: gr.Request):
        return history.strip(studio.workspace(request)), *list_loras(request)

    listed = [generating.own, generating.choices, generating.base, training_base]
    for changed in changes:
        changed.change(list_loras, None, listed, **QUIET)
    app.load(list_images, None, [generating.strip, *listed], **QUIET)


def advise(home: Home) -> str:
    """Problems of this machine, each with the command that fixes it."""
    problems = [finding for finding in doctor.examine(home) if finding.level != "ok"]
    kinds = {"warn": "warn", "error": "bad"}
    return render("frame", "advice", [(kinds[each.level], each.message, each.fix) for each in problems])


def launch_arguments(studio: Studio, browser: bool = False) -> dict[str, Any]:
    """Arguments of `Blocks.launch`: the theme, the gate in front, our own file routes, no run history."""
    access = studio.access
    gate = Middleware(Gate, hosts=access.hosts, space=access.mode == "space", script=files.script_url())
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
        "max_file_size": LARGEST_UPLOAD,
        "footer_links": ["api"],
        "app_kwargs": {"middleware": [gate], "routes": files.routes(studio)},
    }
