"""Licence fields of the Publish form: the licence proposed for the LoRA's base, the reason, and conflicts of another choice."""

from collections.abc import Callable
from dataclasses import dataclass

import gradio as gr

from studio.core.errors import StudioError
from studio.core.workspace import Workspace, slug
from studio.families import bases
from studio.families.facts import Licence
from studio.publishing import licensing
from studio.runs.run import Run
from studio.ui.components.html import facts, html, notice
from studio.ui.components.templates import render
from studio.ui.studio import QUIET, Studio

LICENCE_HELP = "What others may do with the LoRA. Without a licence they may look at it but not reuse it."


@dataclass(frozen=True)
class LicenceFields:
    """`follow` computes the values of `following` for another LoRA from `followed`. It is called by the tab's one handler of that change: with
    two handlers Gradio 6.31 may report the field as changed without end."""

    licence: gr.Dropdown
    name: gr.Textbox
    link: gr.Textbox
    follow: Callable
    followed: list[gr.components.Component]
    following: list[gr.components.Component]


def build_licence(studio: Studio, adapter: gr.Dropdown, repo: gr.Textbox) -> LicenceFields:
    choices = [(label, name) for name, label in licensing.LICENCES.items()]
    licence = gr.Dropdown(choices, value="", label="Licence", info=LICENCE_HELP, filterable=False, elem_id="licence")
    with gr.Row(visible=False) as other:
        name = gr.Textbox(label="Licence name", min_width=120)
        link = gr.Textbox(label="Licence link", min_width=120)
    details = html("", elem_id="about-licence")
    touched = gr.State(False)

    def explain(chosen: str | None, repo: str | None, licence: str | None, name: str | None, link: str | None, request: gr.Request) -> str:
        if not chosen:
            return ""
        return licence_details(*base_of(studio.workspace(request), chosen), licence or "", name or "", link or "", repo or "")

    def follow(workspace: Workspace, chosen: str, touched: bool, licence: str | None, name: str | None, link: str | None) -> tuple[str | None, str]:
        """The licence that the base proposes, unless the user chose one."""
        base_title, base = base_of(workspace, chosen)
        licence = licence if touched else licensing.default_licence(base)
        return licence, licence_details(base_title, base, licence or "", name or "", link or "", repo_name(workspace, chosen))

    gr.on([licence.change, name.blur, link.blur, repo.change], explain, [adapter, repo, licence, name, link], details, **QUIET)
    licence.change(lambda name: gr.update(visible=name == licensing.OTHER), licence, other, **QUIET)
    licence.input(lambda: True, None, touched, **QUIET)
    return LicenceFields(licence, name, link, follow, [touched, licence, name, link], [licence, details])


def run_id_of(ref: str) -> str:
    """The run of an adapter reference: "run:<id>" or "run:<id>@<step>"."""
    return ref.removeprefix("run:").partition("@")[0]


def base_of(workspace: Workspace, ref: str) -> tuple[str, Licence | None]:
    """(title, licence) of the base that a run's LoRA was trained on; None for an unknown licence."""
    base = bases.get_base(Run.open(workspace, run_id_of(ref)).config.model.base_model)
    return base.title, base.offer.licence if base.offer else None


def repo_name(workspace: Workspace, ref: str) -> str:
    """Repository name for the Hub: the run's title, with the prefix that the licence of its base requires."""
    title, (_, licence) = Run.open(workspace, run_id_of(ref)).short_title, base_of(workspace, ref)
    prefix = licence.name_prefix if licence else ""
    return slug(title if title.lower().startswith(prefix.lower()) else f"{prefix} {title}")


def licence_details(base_title: str, base: Licence | None, licence: str, name: str, link: str, repo: str) -> str:
    """Details below the field."""
    lines = [licensing.explain_base_licence(base_title, base)]
    if base and licence == licensing.AS_BASE:
        lines.append(render("publish", "licence_of_base", base))
    try:
        grant = licensing.resolve_grant(base_title, base, licence, name, link)
        refusal = licensing.find_conflict(base_title, base, grant)
        warnings = licensing.find_warnings(base_title, base, grant, repo.rpartition("/")[2])
        message = notice(refusal, "bad") + notice(" ".join(warnings), "warn")
    except StudioError as error:
        message = notice(str(error), "warn")
    return facts(lines) + message
