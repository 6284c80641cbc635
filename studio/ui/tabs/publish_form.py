"""Fields of the Publish tab, and the publish request that they make."""

from dataclasses import dataclass
from typing import TYPE_CHECKING

import gradio as gr

from studio.core.errors import validated
from studio.ui.components.html import html
from studio.ui.form_drafts import DraftedForm
from studio.ui.studio import Studio
from studio.ui.tabs.publish_licence import LicenceFields, build_licence

if TYPE_CHECKING:
    from studio.publishing.plan import Request

RIGHTS_HELP = "Why you may publish this LoRA; shown on the model card. Choose a statement or write your own."
RIGHTS = [
    "I made all the images myself.",
    "The authors of the images allowed it.",
    "The images are under a free licence.",
    "Trained on the sample images that ship with LoRA Studio.",
]
STEP_HELP = "The last saved LoRA, or an earlier step whose samples look better."
PUBLIC, PRIVATE = "Public", "Private"
NOT_OPENED = ""


@dataclass(frozen=True)
class PublishForm:
    adapter: gr.Dropdown
    picked: gr.State
    """Whether the user chose the run, in the dropdown or by an address."""
    followed: gr.State
    """The run of the Train tab for which a run was preselected last; NOT_OPENED until the page is opened."""
    reason: gr.HTML
    """Why the chosen run is not the one that the Train tab shows."""
    card: gr.HTML
    step: gr.Dropdown
    repo: gr.Textbox
    proposed: gr.State
    """The repository name that was proposed; another one was typed."""
    visibility: gr.Radio
    licence: LicenceFields
    rights: gr.Dropdown
    confirmed: gr.Checkbox
    title: gr.Textbox
    description: gr.Textbox
    stated_by: gr.Textbox
    base_licence: gr.Textbox
    update: gr.Checkbox

    @property
    def fields(self) -> list[gr.components.Component]:
        """The arguments of `build_request`, in order."""
        licence = [self.licence.licence, self.licence.name, self.licence.link]
        more = [self.title, self.description, self.stated_by, self.update, self.base_licence]
        return [self.adapter, self.step, self.repo, self.visibility, *licence, self.rights, *more]

    @property
    def drafted(self) -> DraftedForm:
        """Fields that the browser keeps as drafts: no confirmation, and never the token."""
        licence = {"licence": self.licence.licence, "licence-name": self.licence.name, "licence-link": self.licence.link, "rights": self.rights}
        more = {"title": self.title, "description": self.description, "stated-by": self.stated_by, "update": self.update}
        return DraftedForm("publish", {"repo": self.repo, "visibility": self.visibility, **licence, **more, "base-licence": self.base_licence})


def build_form(studio: Studio) -> PublishForm:
    adapter = gr.Dropdown([], label="LoRA", elem_id="publish-adapter", filterable=False)
    reason, card = html("", elem_id="publish-reason"), html("", elem_id="publish-card")
    step = gr.Dropdown([], label="Checkpoint", info=STEP_HELP, elem_id="publish-step", filterable=False, visible=False)
    repo = gr.Textbox(
        label="Repository name",
        placeholder="ink-style",
        info="Letters, digits and dashes; or owner/name for an organisation.",
        max_lines=1,
        elem_id="repo",
    )
    visibility = gr.Radio([PRIVATE, PUBLIC], value=PRIVATE, label="Visibility", info="Private: only you can see it.", elem_id="visibility")
    licence = build_licence(studio, adapter, repo)
    rights = gr.Dropdown(RIGHTS, value=None, label="Rights", info=RIGHTS_HELP, allow_custom_value=True, elem_id="rights")
    confirmed = gr.Checkbox(False, label="I confirm that this statement is true", elem_id="confirm-rights")
    with gr.Accordion("More for the model card", open=False, elem_classes="fold"):
        title = gr.Textbox(label="Title", placeholder="the title of the run", max_length=120)
        description = gr.Textbox(label="Description", lines=3, max_length=5000, placeholder="Strengths, limits and recommended settings.")
        stated_by = gr.Textbox(label="Your name", info="Author of the rights statement on the model card.", max_length=120)
        base_licence = gr.Textbox(label="Licence of the base model", info="Only if the base is your own file or folder.", max_length=200)
        update = gr.Checkbox(False, label="Update an existing repository", info="Adds a new version where this run was published before.")
    return PublishForm(
        adapter,
        gr.State(False),
        gr.State(NOT_OPENED),
        reason,
        card,
        step,
        repo,
        gr.State(None),
        visibility,
        licence,
        rights,
        confirmed,
        title,
        description,
        stated_by,
        base_licence,
        update,
    )


def build_request(
    adapter: str | None,
    step: int | None,
    repo: str | None,
    visibility: str,
    licence: str | None,
    licence_name: str | None,
    licence_link: str | None,
    rights: str | None,
    title: str | None,
    description: str | None,
    stated_by: str | None,
    update: bool,
    base_licence: str | None,
) -> "Request":
    """The payload of a publish job from the values of `PublishForm.fields`."""
    from studio.publishing.plan import Request

    values = {
        "adapter": f"{adapter}@{step}" if adapter and step is not None else adapter or "",
        "repo": (repo or "").strip(),
        "private": visibility != PUBLIC,
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
    return validated(Request, values)
