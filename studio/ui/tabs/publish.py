"""Publishing: a repository name, who may see it, a licence and a statement; beside it the page as it will look."""

import gradio as gr

from studio.core.errors import StudioError, validated
from studio.core.workspace import Workspace
from studio.runs import library
from studio.runs.run import Run
from studio.ui.components.html import empty, html, notice, small
from studio.ui.components.templates import render
from studio.ui.studio import QUIET, Studio, in_words
from studio.ui.tabs.publish_licence import build_licence, repo_name
from studio.ui.tabs.publish_send import build_send

TITLE = "Publish"

NOTHING = empty("Nothing to publish yet", "Train a LoRA first; its page appears here as it will look.")
RIGHTS_HELP = "What gives you the right to publish this; it stands on the card. Choose one or write your own."
RIGHTS = [
    "I made all the pictures myself.",
    "The makers of the pictures allowed it.",
    "The pictures are under a free licence.",
    "Trained on the sample pictures that ship with LoRA Studio.",
]
STEP_HELP = "The last one, or an earlier column of the film that looks better."
PUBLIC, PRIVATE = "Everybody", "Only me (private)"


def publishable(workspace: Workspace) -> list[tuple[str, str]]:
    """Your own runs: only for those can an honest card be written."""
    return [(card.title, card.ref) for card in library.list_adapters(workspace) if card.source == "run"]


def build(studio: Studio, rooms: gr.Tabs, news: gr.State):
    """`news` changes when any job begins or ends, so that a run that has just finished can be chosen."""
    html(render("publish", "head"))
    none = html(NOTHING)
    to_train = gr.Button("Go to Train", variant="primary", size="md", scale=0)
    with gr.Row(elem_classes="bench", visible=False) as bench:
        with gr.Column(elem_classes="pane", scale=5, min_width=320):
            adapter = gr.Dropdown([], label="LoRA", elem_id="publish-adapter", filterable=False)
            step = gr.Dropdown([], label="Which save", info=STEP_HELP, elem_id="publish-step", filterable=False, visible=False)
            repo = gr.Textbox(
                label="Name on the Hub",
                placeholder="ink-style",
                info="Letters, digits and dashes; or owner/name for an organisation.",
                max_lines=1,
                elem_id="repo",
            )
            sight = gr.Radio([PRIVATE, PUBLIC], value=PRIVATE, label="Who can see it", elem_id="sight")
            asked = build_licence(studio, adapter, repo)
            rights = gr.Dropdown(RIGHTS, value=None, label="Rights", info=RIGHTS_HELP, allow_custom_value=True, elem_id="rights")
            stand = gr.Checkbox(False, label="This is true, and I answer for it", elem_id="stand")
            with gr.Accordion("More on the card", open=False, elem_classes="fold"):
                title = gr.Textbox(label="Title", placeholder="as the run", max_length=120)
                description = gr.Textbox(label="Description", lines=3, max_length=5000, placeholder="What it is good for, and what it is not.")
                stated_by = gr.Textbox(label="Your name", max_length=120)
                base_licence = gr.Textbox(label="Licence of the base, if it is your own file or folder", max_length=200)
                update = gr.Checkbox(False, label="Add a new version to a repository I published this to before")
            form = [adapter, step, repo, sight, asked.licence, asked.name, asked.link, rights, title, description, stated_by, update, base_licence]
            build_send(studio, form, repo, sight, stand, request_of)
        with gr.Column(elem_classes="pane card", scale=7, min_width=320):
            html(small("The page as it will look"))
            head = html("", elem_id="card-head")
            body = gr.Markdown("", elem_id="card-body", sanitize_html=True, line_breaks=False)

    def preview(request: gr.Request, *values):
        """The very text that will be sent; a field that does not fit yet leaves the last good one."""
        if not values[0]:
            return gr.skip(), gr.skip()
        from studio.core import hashes
        from studio.publishing import plan
        from studio.ui.components import card_view

        workspace = studio.workspace(request)
        try:
            made = plan.plan(workspace, request_of(*values), hashes.known)
        except StudioError as error:
            return notice(str(error), "warn"), gr.skip()
        run_id = values[0].removeprefix("run:")
        return card_view.show(made, run_id, made.facts.trained.steps)

    gr.on(
        [each.change for each in (step, sight, asked.licence, rights, update)]
        + [each.blur for each in (repo, asked.name, asked.link, title, description, stated_by, base_licence)],
        preview,
        form,
        [head, body],
        **QUIET,
    )

    def arrive(chosen, name, request: gr.Request):
        """List the runs; the newest is chosen, and its name proposed."""
        known = publishable(studio.workspace(request))
        refs = [ref for _, ref in known]
        if not refs:
            return gr.update(visible=True), gr.update(visible=True), gr.update(visible=False), gr.skip(), gr.skip()
        value = chosen if chosen in refs else refs[0]
        proposed = name or repo_name(studio.workspace(request), value)
        return gr.update(visible=False), gr.update(visible=False), gr.update(visible=True), gr.update(choices=known, value=value), proposed

    @in_words
    def rename(chosen, request: gr.Request):
        return repo_name(studio.workspace(request), chosen) if chosen else gr.skip()

    def list_saves(chosen, request: gr.Request, *licence_now):
        """The saves of the chosen run, the last one first; those without pictures of their own say so. And what its base's licence says."""
        if not chosen:
            return gr.skip(), *[gr.skip()] * len(asked.following)
        run = Run.open(studio.workspace(request), chosen.removeprefix("run:"))
        drawn = set(run.samples())
        saves = [(f"step {step:,}{'' if step in drawn else ' (no pictures)'}", step) for step, _ in reversed(run.adapters())]
        best = next((step for _, step in saves if step in drawn), saves[0][1])
        licence = asked.follow(studio.workspace(request), chosen, *licence_now)
        return gr.update(choices=saves, value=best, visible=len(saves) > 1), *licence

    adapter.change(list_saves, [adapter, *asked.followed], [step, *asked.following], **QUIET).then(preview, form, [head, body], **QUIET)
    adapter.input(rename, adapter, repo, **QUIET).then(preview, form, [head, body], **QUIET)
    filled = [none, to_train, bench, adapter, repo]
    to_train.click(lambda: gr.Tabs(selected="train"), None, rooms, **QUIET)
    news.change(arrive, [adapter, repo], filled, **QUIET)
    return arrive, [adapter, repo], filled


def request_of(adapter, step, repo, sight, licence, licence_name, licence_link, rights, title, description, stated_by, update, base_licence):
    """The form as the payload of a publish job."""
    from studio.publishing.plan import Request

    wanted = {
        "adapter": f"{adapter}@{step}" if adapter and step is not None else adapter or "",
        "repo": (repo or "").strip(),
        "private": sight != PUBLIC,
        "licence": licence or "",
        "licence_name": licence_name or "",
        "licence_link": licence_link or "",
        "rights": rights or "",
        "title": title or "",
        "description": description or "",
        "stated_by": stated_by or "",
        "update": bool(update),
        "base_licence": base_licence or "",
    }
    return validated(Request, wanted)
