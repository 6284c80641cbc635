"""Adding a LoRA to the stack: one of your own or a starter, a file from this computer, or a Hub repository."""

import time
from collections.abc import Sequence
from dataclasses import dataclass, field

import gradio as gr
from pydantic import SecretStr

from studio.core.workspace import Workspace
from studio.jobs.queue import Job
from studio.runs import library
from studio.runs.run import Run
from studio.ui.components import run_card, run_state
from studio.ui.components.following import SKIP, Followed, Following
from studio.ui.components.html import html, notice, notices, panel
from studio.ui.components.removed import build_removed, listing
from studio.ui.components.templates import render
from studio.ui.studio import QUIET, Studio, show_errors

MAX_CARDS = 12
REMOVED = "adapters"
"""Kind of removed items; see runs/trash.py."""
SOURCES = {"starter": "starter", "run": "yours", "file": "from a file", "hub": "from the Hub"}


def choices(workspace: Workspace) -> list[tuple[str, str]]:
    """Every LoRA that can be added, newest first, with the base that it was made for."""
    return [(label(adapter), adapter.ref) for adapter in library.list_adapters(workspace)]


def label(adapter: library.AdapterInfo) -> str:
    source = SOURCES[adapter.source]
    return f"{adapter.title} ({source})" if adapter.source == "starter" else f"{adapter.title} ({source}, for {adapter.made_for})"


@dataclass(frozen=True)
class StackRequest:
    """LoRAs to add to the stack, or to try alone: the others switched off, and one of their own sample prompts in the field."""

    refs: tuple[str, ...]
    alone: bool = False
    time: float = field(default_factory=time.time)
    """Makes the same request twice a new one."""


def own_runs(studio: Studio, owner: str) -> str:
    """Cards of the runs that have a LoRA, starred ones first, then the newest; the dropdown below lists all."""
    jobs = run_state.newest_jobs(studio, owner)
    runs = [run for run in Run.all(studio.home.workspace(owner)) if run.latest_adapter()]
    first = sorted(runs, key=lambda run: not run.marks.starred)[:MAX_CARDS]
    cards = [run_card.make(run, run_state.condition(run, jobs.get(run.id))) for run in first]
    return render("run_card", "picker", cards, "add", "Your LoRAs") if cards else ""


def build_adding(studio: Studio, requested: gr.State) -> tuple[gr.HTML, gr.Dropdown, gr.HTML]:
    """Widgets that put a StackRequest into `requested`; returns the cards and the dropdown, in which new LoRAs are listed, and the removed LoRAs."""
    starters = [(label(adapter), adapter.ref) for adapter in library.starters()]
    with gr.Accordion("Add a LoRA", open=False, elem_classes="fold", elem_id="add-lora"):
        own = panel("", ("add",), elem_id="add-own")
        chosen = gr.Dropdown(starters, value=None, label="Yours and starters", filterable=True, elem_id="add-mine")
        repo = gr.Textbox(label="Hugging Face Hub repository", placeholder="owner/name", max_lines=1)
        with gr.Row():
            file = gr.Textbox(label="File, if it has several", placeholder="name.safetensors", min_width=130, max_lines=1)
            revision = gr.Textbox(label="Revision", placeholder="newest", min_width=130, max_lines=1)
        with gr.Row():
            download = gr.Button("Download from the Hub", size="sm", min_width=190)
            upload = gr.UploadButton("File from this computer", file_types=[".safetensors"], file_count="multiple", size="sm", min_width=190)
        message = html("")
    removed = build_removed(studio, REMOVED)
    removed.render()

    following = Following(studio, lambda _, jobs, request: show_added(studio, jobs), [requested, message])
    inputs, outputs = [following.followed], [*following.state, message]

    def add_own(event: gr.EventData) -> StackRequest:
        return StackRequest((f"run:{event.run}",))

    @show_errors
    def from_files(followed: Followed | None, files, request: gr.Request):
        payload = {"files": [{"path": str(file), "name": str(file).replace("\\", "/").rpartition("/")[2]} for file in files or []]}
        job = studio.jobs.start(studio.jobs.submit(studio.owner(request), "adapter", payload))
        return *following.begin([job], before=followed), notice("Loading …")

    @show_errors
    def from_hub(followed: Followed | None, repo: str, file: str, revision: str, request: gr.Request, login: gr.OAuthToken | None = None):
        """With the visitor's or this computer's own login, so that a private repository can be downloaded."""
        if repo.count("/") != 1:
            return *SKIP, notice(f"{repo.strip() or 'An empty field'} is not a Hub repository; write owner/name, as in its address.", "bad")
        payload = {"repo_id": repo.strip(), "revision": revision.strip() or None, "filename": file.strip() or None}
        token = SecretStr(login.token) if login else studio.access.machine_token()
        secret = token.get_secret_value().encode() if token else None
        job = studio.jobs.start(studio.jobs.submit(studio.owner(request), "download", payload), secret)
        return *following.begin([job], before=followed), notice("Loading …")

    @show_errors
    def restore_lora(request: gr.Request, event: gr.EventData) -> tuple:
        workspace = studio.workspace(request)
        workspace.restore(str(event.id))
        return gr.update(choices=choices(workspace)), listing(workspace, REMOVED)

    removed.restore(restore_lora, None, [chosen, removed], **QUIET)
    chosen.input(lambda ref: (StackRequest((ref,)), None), chosen, [requested, chosen], **QUIET)
    upload.upload(from_files, [*inputs, upload], outputs, **QUIET)
    gr.on([download.click, repo.submit], from_hub, [*inputs, repo, file, revision], outputs, **QUIET)
    own.add(add_own, None, requested, **QUIET)
    return own, chosen, removed


def show_added(studio: Studio, jobs: Sequence[Job]) -> tuple:
    """(stack request, message) of imports and downloads; the request, when all have ended, is for all of their LoRAs."""
    shown, refs = [], []
    for job in jobs:
        if job.state == "done":
            refs += job.result["adapters"]
            titles = [library.find(studio.home.workspace(job.owner), ref).title for ref in job.result["adapters"]]
            shown.append(notice(f"Added to the stack: {', '.join(titles)}.", "good") if titles else "")
            shown.append(notices([each["reason"] for each in job.result["refused"]], "bad"))
        elif job.unfinished:
            shown.append(notice(job.message or "Loading …"))
        else:
            shown.append(notice(job.error or "Adding the LoRA was stopped.", "bad"))
    added = bool(refs) and not any(job.unfinished for job in jobs)
    return (StackRequest(tuple(refs)) if added else gr.skip()), "".join(shown)
