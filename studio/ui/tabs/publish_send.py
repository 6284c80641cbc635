"""The end of the Publish form: token, the button that says what it does, progress, the result; and saving without a Hub."""

from collections.abc import Callable
from pathlib import Path

import gradio as gr
from gradio.utils import get_icon_path

from studio.core.errors import StudioError
from studio.ui import files
from studio.ui.components.html import html, notice, share
from studio.ui.components.templates import render
from studio.ui.studio import QUIET, Studio

TOKEN_HELP = "From huggingface.co/settings/tokens, with write access. It is used once and kept nowhere."
STORED_HELP = "This computer is logged in to the Hub; leave this empty to publish with that login. A token typed here is used once and kept nowhere."


def doing(repo: str, sight: str, private_words: str) -> str:
    """What the button does, in words."""
    how = "privately" if sight == private_words else "for everybody"
    return f"Publish {how} as {repo.strip()}" if (repo or "").strip() else f"Publish {how}"


def build_login() -> gr.Button:
    """Sign in, or out, of the Hub on a Space. A link: gr.LoginButton (Gradio 6.31) runs a script from a string, which the page's policy refuses."""
    button = gr.Button(
        "Sign in with Hugging Face",
        variant="huggingface",
        size="md",
        icon=get_icon_path("huggingface-logo.svg"),
        link="/login/huggingface?_target_url=/",
        elem_id="hub-login",
    )

    def show_login(profile: gr.OAuthProfile | None):
        if profile is None:
            return gr.skip()
        return gr.update(value=f"Logout ({profile.username})", link="/logout?_target_url=/")

    gr.on(None, show_login, None, button, **QUIET)
    return button


def build_send(studio: Studio, form: list, repo: gr.Textbox, sight: gr.Radio, stand: gr.Checkbox, request_of: Callable):
    private_words = sight.value
    token = gr.Textbox(
        label="Hub token",
        type="password",
        info=STORED_HELP if studio.access.machine_token() else TOKEN_HELP,
        placeholder="hf_…",
        max_lines=1,
        elem_id="token",
    )
    if studio.access.oauth:
        build_login()
    go = gr.Button("Publish privately", variant="primary", size="lg", elem_id="publish")
    said = html("", elem_id="publish-said")
    with gr.Row():
        as_zip = gr.Button("Save as zip", size="sm", min_width=110, elem_id="save-zip")
        as_folder = gr.Button("Save as folder", size="sm", min_width=110, visible=studio.access.mode == "local")
    code = gr.Code(
        "",
        language="python",
        label="Call it: the same picture in Python",
        visible=False,
        elem_id="call-it",
        interactive=False,
        show_line_numbers=False,
        wrap_lines=True,
    )

    gr.on([repo.change, sight.change], lambda repo, sight: doing(repo, sight, private_words), [repo, sight], go, **QUIET)

    async def send(request: gr.Request, login: gr.OAuthToken | None, token: str, stands: bool, *values):
        """Submit the job with the token on its stdin, and follow it. A token typed in is cleared from the page at once; on a Space the
        visitor's own login publishes, and nothing needs to be pasted."""
        from studio.hub import client

        try:
            if not stands:
                raise StudioError("Tick that the rights statement is true; nothing is published without it.")
            wish = request_of(*values)
            if not wish.rights.strip():
                raise StudioError("Say what gives you the right to publish this; it stands on the card.")
            if not wish.repo:
                raise StudioError("Give it a name on the Hub, for example ink-style.")
            given = (token or "").strip() or (login.token if login else "")
            secret = studio.access.publishing_token(client.read_token(given) if given else None)
            job = studio.jobs.submit(studio.owner(request), "publish", wish.model_dump(), key=wish.job_key)
            job = studio.jobs.start(job, secret=secret.get_secret_value().encode())
        except StudioError as error:
            yield gr.skip(), notice(str(error), "bad"), gr.update(visible=False)
            return
        async for now in studio.watch(job, every=0.1):
            if now.state == "done":
                yield "", done(now.result), gr.update(value=now.result.get("code", ""), visible=bool(now.result.get("code")))
            elif now.state in ("failed", "interrupted", "cancelled"):
                yield gr.skip(), notice(now.error or "Publishing was stopped; what was sent stays private.", "bad"), gr.update(visible=False)
            else:
                yield "", render("job_bar", "working", now.message or "Starting", share(now.done, now.total), "", 0), gr.update(visible=False)

    go.click(send, [token, stand, *form], [token, said, code], **QUIET)

    async def save(request: gr.Request, how: str, values: tuple):
        """A job of its own packs it: a LoRA can be gigabytes."""
        try:
            wish = request_of(*values)
            payload = {"request": wish.model_dump(), "how": how}
            job = studio.jobs.start(studio.jobs.submit(studio.owner(request), "save", payload, key=f"save-{how}-{wish.adapter}"))
        except StudioError as error:
            yield notice(str(error), "bad")
            return
        async for now in studio.watch(job, every=0.1):
            if now.state == "done":
                yield saved(Path(now.result["path"]))
            elif now.state in ("failed", "interrupted", "cancelled"):
                yield notice(now.error or "Packing was stopped.", "bad")
            else:
                yield render("job_bar", "working", now.message or "Starting", share(now.done, now.total), "", 0)

    async def zip_up(request: gr.Request, *values):
        async for shown in save(request, "zip", values):
            yield shown

    async def folder(request: gr.Request, *values):
        async for shown in save(request, "folder", values):
            yield shown

    as_zip.click(zip_up, form, said, **QUIET)
    as_folder.click(folder, form, said, **QUIET)
    return token


def saved(path: Path) -> str:
    """Where what was packed is to be had."""
    if path.suffix != ".zip":
        return render("publish", "saved", path)
    return render("publish", "zipped", files.url("published", path.name))


def done(result: dict) -> str:
    """Where it is now, and what to do next."""
    return render("publish", "published", result["url"], bool(result.get("private")), result.get("notes", []))
