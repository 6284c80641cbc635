"""End of the Publish form: token, publish button, progress and result; and saving without the Hub."""

from pathlib import Path

import gradio as gr
from gradio.utils import get_icon_path

from studio.core.errors import StudioError
from studio.jobs.queue import Job
from studio.ui import files
from studio.ui.components.following import SKIP, Followed, Following
from studio.ui.components.html import html, notice, share
from studio.ui.components.templates import render
from studio.ui.studio import QUIET, Studio
from studio.ui.tabs.publish_form import PRIVATE, PublishForm, build_request

TOKEN_HELP = "From huggingface.co/settings/tokens, with write access. It is used once and not stored."
STORED_HELP = "This computer is logged in to the Hub; leave this empty to use that login. A token entered here is used once and not stored."


def button_label(repo: str, visibility: str) -> str:
    how = "privately" if visibility == PRIVATE else "publicly"
    return f"Publish {how} as {repo.strip()}" if (repo or "").strip() else f"Publish {how}"


def build_login() -> gr.Button:
    """Button to sign in or out of the Hub on a Space. A link: gr.LoginButton (Gradio 6.31) runs a script from a string, which the page's policy
    refuses."""
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
        return gr.update(value=f"Log out ({profile.username})", link="/logout?_target_url=/")

    gr.on(None, show_login, None, button, **QUIET)
    return button


def build_send(studio: Studio, form: PublishForm) -> None:
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
    publish = gr.Button(button_label("", PRIVATE), variant="primary", size="lg", elem_id="publish")
    message = html("", elem_id="publish-message")
    with gr.Row():
        save_zip = gr.Button("Save as zip", size="sm", min_width=110, elem_id="save-zip")
        save_folder = gr.Button("Save as folder", size="sm", min_width=110, visible=studio.access.mode == "local")
    snippet = gr.Code(
        "",
        language="python",
        label="Code: the same image in Python",
        visible=False,
        elem_id="code-snippet",
        interactive=False,
        show_line_numbers=False,
        wrap_lines=True,
    )
    gr.on([form.repo.change, form.visibility.change], button_label, [form.repo, form.visibility], publish, **QUIET)
    wire_publish(studio, form, publish, token, message, snippet)
    wire_save(studio, form, save_zip, save_folder, message)


def wire_publish(studio: Studio, form: PublishForm, publish: gr.Button, token: gr.Textbox, message: gr.HTML, snippet: gr.Code) -> None:
    following = Following(studio, lambda _, jobs, request: show_publishing(jobs[-1]), [message, snippet])

    def send(request: gr.Request, login: gr.OAuthToken | None, token: str, confirmed: bool, *values):
        """Submit the job with the token on its stdin. A token from the field is removed from the page at once; on a Space the visitor's own login
        publishes, and no token is needed."""
        given = (token or "").strip() or (login.token if login else "")
        try:
            job = start_publishing(studio, studio.owner(request), given, confirmed, values)
        except StudioError as error:
            return *SKIP, gr.skip(), notice(str(error), "bad"), gr.update(visible=False)
        return *following.begin([job]), "", progress(job), gr.update(visible=False)

    publish.click(send, [token, form.confirmed, *form.fields], [*following.state, token, message, snippet], **QUIET)


def show_publishing(job: Job) -> tuple:
    """(message, code)"""
    if job.state == "done":
        return published(job.result), gr.update(value=job.result.get("code", ""), visible=bool(job.result.get("code")))
    if job.unfinished:
        return progress(job), gr.update(visible=False)
    return notice(job.error or "Publishing was stopped; what was uploaded stays private.", "bad"), gr.update(visible=False)


def start_publishing(studio: Studio, owner: str, token: str, confirmed: bool, values: tuple) -> Job:
    from studio.hub import client

    if not confirmed:
        raise StudioError("The rights statement is not confirmed; tick the box below it to publish.")
    request = build_request(*values)
    if not request.rights.strip():
        raise StudioError("The rights statement is empty; state why you may publish this LoRA. It is shown on the model card.")
    if not request.repo:
        raise StudioError("The repository name is empty; enter one, for example ink-style.")
    secret = studio.access.publishing_token(client.read_token(token) if token else None)
    job = studio.jobs.submit(owner, "publish", request.model_dump(), key=request.job_key)
    return studio.jobs.start(job, secret=secret.get_secret_value().encode())


def wire_save(studio: Studio, form: PublishForm, zip_button: gr.Button, folder_button: gr.Button, message: gr.HTML) -> None:
    """Each is a job of its own, since a LoRA can be gigabytes."""
    following = Following(studio, lambda _, jobs, request: ("".join(show_saving(job) for job in jobs),), [message])

    def start(request: gr.Request, how: str, followed: Followed | None, values: tuple) -> tuple:
        try:
            planned = build_request(*values)
            payload = {"request": planned.model_dump(), "how": how}
            job = studio.jobs.start(studio.jobs.submit(studio.owner(request), "save", payload, key=f"save-{how}-{planned.adapter}"))
        except StudioError as error:
            return *SKIP, notice(str(error), "bad")
        return *following.begin([job], before=followed), progress(job)

    def save_zip(request: gr.Request, followed: Followed | None, *values):
        return start(request, "zip", followed, values)

    def save_folder(request: gr.Request, followed: Followed | None, *values):
        return start(request, "folder", followed, values)

    inputs = [following.followed, *form.fields]
    zip_button.click(save_zip, inputs, [*following.state, message], **QUIET)
    folder_button.click(save_folder, inputs, [*following.state, message], **QUIET)


def show_saving(job: Job) -> str:
    """Progress and result of packing."""
    if job.state == "done":
        return show_saved(Path(job.result["path"]))
    return progress(job) if job.unfinished else notice(job.error or "Packing was stopped.", "bad")


def progress(job: Job) -> str:
    return render("job_bar", "working", job.message or "Starting", share(job.done, job.total), "", 0)


def show_saved(path: Path) -> str:
    """A link to the zip, or the path of the folder."""
    if path.suffix != ".zip":
        return render("publish", "saved", path)
    return render("publish", "zipped", files.url("published", path.name))


def published(result: dict) -> str:
    """Address of the published LoRA, and notes."""
    return render("publish", "published", result["url"], bool(result.get("private")), result.get("notes", []))
