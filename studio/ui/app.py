"""The page: a frame, four tabs and the job bar. Facts and control only: nothing here computes, and torch is never imported."""

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
from studio.ui.tabs.generate_stack import choices
from studio.ui.theme import STYLES, theme

POLL_SECONDS = 1
LARGEST_UPLOAD = "2gb"
MOVING = ("train", "caption", "import")
"""Kinds of job whose every step shows on a tab."""


def build_app(home: Home, access: Access) -> tuple[gr.Blocks, Studio]:
    """Every tab, wired. Handlers find their caller's Workspace from the request, so one page serves all owners."""
    studio = Studio(home, access, Jobs(home.database))
    with Page(title="LoRA Studio", analytics_enabled=False, delete_cache=(3600, 86400)) as app:
        app.expects_oauth = access.oauth
        html(render("frame", "brand"), elem_id="brand")
        advice = html("", elem_id="advice")
        wanted, chosen, open_run = gr.State(None), gr.State(None), gr.State(None)
        seen, news, beat = gr.State(None), gr.State(None), gr.State(None)
        with gr.Tabs(elem_classes="rooms") as rooms:
            with gr.Tab(generate.TITLE, id="generate"):
                drawing = generate.build(studio, rooms, wanted)
            with gr.Tab(dataset.TITLE, id="dataset"):
                pictures = dataset.build(studio, rooms, chosen, beat)
            with gr.Tab(train.TITLE, id="train") as train_tab:
                learning = train.build(studio, rooms, chosen, beat, wanted, open_run)
            with gr.Tab(publish.TITLE, id="publish"):
                list_runs, asked, listed = publish.build(studio, rooms, news)
        bar = job_bar.build(studio, rooms)
        endpoints.add(studio)

        def look(seen, news, beat, request: gr.Request):
            """Once a second: nothing while no job changed; else the bar, and the two states that tabs listen to."""
            now = studio.jobs.data_version()
            if now == seen:
                return [gr.skip()] * 4
            owner = studio.owner(request)
            running = job_bar.running(studio, owner)
            # The running ones again: a long training is no longer among the newest once enough has come after it.
            jobs = [*studio.jobs.list(owner, kinds=job_bar.SLOW, limit=20), *running]
            ends = tuple((job.id, job.state) for job in jobs)
            moves = tuple((job.id, job.state, job.done, job.message) for job in jobs if job.kind in MOVING)
            shown = job_bar.show(studio.home.workspace(owner), running)
            return now, ends if ends != news else gr.skip(), moves if moves != beat else gr.skip(), shown

        watched = [seen, news, beat, bar]
        gr.Timer(POLL_SECONDS).tick(look, [seen, news, beat], watched, **QUIET)

        def new_loras(request: gr.Request):
            workspace = studio.workspace(request)
            known = gr.update(choices=bases.choices(workspace))
            return gr.update(choices=choices(workspace)), known, known

        def new_pictures(request: gr.Request):
            return history.strip(studio.workspace(request)), *new_loras(request)

        learning_base = next(each for each in learning.outputs if each.elem_id == "base")
        listed_anew = [drawing.choices, drawing.base, learning_base]
        news.change(new_loras, None, listed_anew, **QUIET)
        app.load(look, [seen, news, beat], watched, **QUIET)
        app.load(new_pictures, None, [drawing.strip, *listed_anew], **QUIET)
        app.load(pictures.load, chosen, pictures.opened, **QUIET)
        app.load(learning.load, chosen, learning.outputs, **QUIET)
        train_tab.select(learning.refresh, learning.refresh_inputs, learning.outputs, **QUIET)
        app.load(learning.run.find_running, None, open_run, **QUIET).then(learning.run.show, learning.run.inputs, learning.run.outputs, **QUIET)
        app.load(list_runs, asked, listed, **QUIET)
        if not first_is_shipped():
            app.load(**drawing.draw)
        app.load(lambda: advise(home), None, advice, **QUIET)
    return app, studio


def advise(home: Home) -> str:
    """What this machine could do better, with the one command that does it."""
    troubles = [finding for finding in doctor.examine(home) if finding.level != "ok"]
    kinds = {"warn": "warn", "error": "bad"}
    return render("frame", "advice", [(kinds[each.level], each.message, each.fix) for each in troubles])


def launch_arguments(studio: Studio, browser: bool = False) -> dict:
    """Everything `Blocks.launch` needs: the look, the gate in front, our own file route, run history off."""
    access = studio.access
    gate = Middleware(Gate, hosts=access.hosts, space=access.mode == "space", script=files.script_url())
    return {
        "theme": theme(),
        "css_paths": STYLES,
        "server_name": access.server_name,
        "server_port": access.port,
        "inbrowser": browser,
        "run_history": False,
        # Node would send the page past the gate, without its policy.
        "ssr_mode": False,
        "auth": access.check_login if access.mode == "password" else None,
        "auth_message": render("frame", "login"),
        "share": False,
        "show_error": False,
        "max_file_size": LARGEST_UPLOAD,
        "footer_links": ["api"],
        "app_kwargs": {"middleware": [gate], "routes": files.routes(studio)},
    }
