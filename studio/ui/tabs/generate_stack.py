"""Adding a LoRA to the stack: one of your own or a starter, a file from this computer, or a Hub repository."""

import time
from dataclasses import dataclass, field

import gradio as gr
from pydantic import SecretStr

from studio.core.workspace import Workspace
from studio.runs import library
from studio.ui.components.html import html, notice, notices
from studio.ui.studio import QUIET, Studio, in_words

SOURCES = {"starter": "starter", "run": "yours", "file": "from a file", "hub": "from the Hub"}


def choices(workspace: Workspace) -> list[tuple[str, str]]:
    """Every LoRA that can be added, newest first, with the base that it was made for."""
    return [(listed(card), card.ref) for card in library.list_adapters(workspace)]


def listed(card: library.AdapterInfo) -> str:
    whose = SOURCES[card.source]
    return f"{card.title} ({whose})" if card.source == "starter" else f"{card.title} ({whose}, for {card.made_for})"


@dataclass(frozen=True)
class Wish:
    """LoRAs wanted in the stack, or to be tried alone: the others switched off, one of their own sample prompts in the field."""

    refs: tuple[str, ...]
    alone: bool = False
    time: float = field(default_factory=time.time)
    """Makes the same wish twice a new one."""


def build_adding(studio: Studio, wanted: gr.State) -> gr.Dropdown:
    """Widgets that put a wish into `wanted`; returns the dropdown so that new LoRAs can be listed."""
    starters = [(listed(card), card.ref) for card in library.starters()]
    with gr.Accordion("Add a LoRA", open=False, elem_classes="fold", elem_id="add-lora"):
        chosen = gr.Dropdown(starters, value=None, label="Yours and starters", filterable=True, elem_id="add-mine")
        repo = gr.Textbox(label="From the Hugging Face Hub", placeholder="owner/name", max_lines=1)
        with gr.Row():
            file = gr.Textbox(label="File, if it has several", placeholder="name.safetensors", min_width=130, max_lines=1)
            revision = gr.Textbox(label="Version (revision)", placeholder="newest", min_width=130, max_lines=1)
        with gr.Row():
            fetch = gr.Button("Fetch from the Hub", size="sm", min_width=120)
            upload = gr.UploadButton("File from this computer", file_types=[".safetensors"], file_count="multiple", size="sm", min_width=120)
        said = html("")

    async def take(job, secret: bytes | None = None):
        """Follow an import or download to its end, in words."""
        async for now in studio.watch(studio.jobs.start(job, secret)):
            if now.state == "done":
                refs = now.result["adapters"]
                titles = [library.find(studio.home.workspace(job.owner), ref).title for ref in refs]
                said = notice(f"In the stack now: {', '.join(titles)}.", "good") if refs else ""
                refused = notices([each["reason"] for each in now.result["refused"]], "bad")
                yield (Wish(tuple(refs)) if refs else gr.skip()), said + refused
            elif now.state in ("failed", "interrupted", "cancelled"):
                yield gr.skip(), notice(now.error or "That was stopped.", "bad")
            else:
                yield gr.skip(), notice(now.message or "Getting it …")

    @in_words
    async def from_files(files, request: gr.Request):
        payload = {"files": [{"path": str(file), "name": str(file).replace("\\", "/").rpartition("/")[2]} for file in files or []]}
        async for shown in take(studio.jobs.submit(studio.owner(request), "adapter", payload)):
            yield shown

    @in_words
    async def from_hub(repo: str, file: str, revision: str, request: gr.Request, login: gr.OAuthToken | None = None):
        """With the visitor's or this computer's own login, so that what was published privately can be fetched again."""
        if repo.count("/") != 1:
            yield gr.skip(), notice(f"{repo.strip() or 'An empty field'} is not a Hub repository; write owner/name, as in its address.", "bad")
            return
        payload = {"repo_id": repo.strip(), "revision": revision.strip() or None, "filename": file.strip() or None}
        token = SecretStr(login.token) if login else studio.access.machine_token()
        secret = token.get_secret_value().encode() if token else None
        async for shown in take(studio.jobs.submit(studio.owner(request), "download", payload), secret):
            yield shown

    chosen.input(lambda ref: (Wish((ref,)), None), chosen, [wanted, chosen], **QUIET)
    upload.upload(from_files, upload, [wanted, said], **QUIET)
    gr.on([fetch.click, repo.submit], from_hub, [repo, file, revision], [wanted, said], **QUIET)
    return chosen
