"""The licence on the Publish form: the one that the LoRA's base proposes, why, and what speaks against another."""

from collections.abc import Callable
from dataclasses import dataclass

import gradio as gr

from studio.core.errors import StudioError
from studio.core.workspace import Workspace, slug
from studio.families import bases
from studio.families.facts import Licence
from studio.publishing import licensing
from studio.runs import library
from studio.runs.run import Run
from studio.ui.components.html import facts, html, notice
from studio.ui.components.templates import render
from studio.ui.studio import QUIET, Studio

LICENCE_HELP = "What others may do with it. Not chosen means: look, but nobody may reuse it."


@dataclass(frozen=True)
class LicenceFields:
    """`follow` gives `following` its values for another LoRA, from `followed`. For the tab's one handler of that change: with a second one
    Gradio 6.31 may find the field changed for ever."""

    licence: gr.Dropdown
    name: gr.Textbox
    link: gr.Textbox
    follow: Callable
    followed: list
    following: list


def build_licence(studio: Studio, adapter: gr.Dropdown, repo: gr.Textbox) -> LicenceFields:
    choices = [(words, name) for name, words in licensing.LICENCES.items()]
    licence = gr.Dropdown(choices, value="", label="Licence", info=LICENCE_HELP, filterable=False, elem_id="licence")
    with gr.Row(visible=False) as other:
        name = gr.Textbox(label="Name of the licence", min_width=120)
        link = gr.Textbox(label="Link to it", min_width=120)
    about = html("", elem_id="about-licence")
    theirs = gr.State(False)

    def explain(chosen, repo, licence, name, link, request: gr.Request):
        base = base_of(studio.workspace(request), chosen)
        return words_on(*base, licence or "", name or "", link or "", repo or "") if base else ""

    def follow(workspace: Workspace, chosen, theirs, licence, name, link):
        """The licence that the base proposes, unless somebody chose one."""
        base_title, base = base_of(workspace, chosen)
        licence = licence if theirs else licensing.default_licence(base)
        return licence, words_on(base_title, base, licence or "", name or "", link or "", repo_name(workspace, chosen))

    gr.on([licence.change, name.blur, link.blur, repo.change], explain, [adapter, repo, licence, name, link], about, **QUIET)
    licence.change(lambda name: gr.update(visible=name == licensing.OTHER), licence, other, **QUIET)
    licence.input(lambda: True, None, theirs, **QUIET)
    return LicenceFields(licence, name, link, follow, [theirs, licence, name, link], [licence, about])


def base_of(workspace: Workspace, ref: str | None) -> tuple[str, Licence | None] | None:
    """(title, licence) of the base that a run's LoRA was made from; no licence where it is not known."""
    if not ref:
        return None
    base = bases.get_base(Run.open(workspace, ref.removeprefix("run:").partition("@")[0]).config.model.base_model)
    return base.title, base.offer.licence if base.offer else None


def repo_name(workspace: Workspace, ref: str) -> str:
    """A name for the Hub: the LoRA's title, begun as the licence of its base asks."""
    title, (_, licence) = library.find(workspace, ref).title, base_of(workspace, ref)
    begins = licence.begins if licence else ""
    return slug(title if title.lower().startswith(begins.lower()) else f"{begins} {title}")


def words_on(base_title: str, base: Licence | None, licence: str, name: str, link: str, repo: str) -> str:
    """What stands below the field."""
    lines = [licensing.explain_base_licence(base_title, base)]
    if base and licence == licensing.AS_BASE:
        lines.append(render("publish", "licence_of_base", base))
    try:
        grant = licensing.resolve_grant(base_title, base, licence, name, link)
        refused, advice = licensing.find_conflict(base_title, base, grant), licensing.find_warnings(base_title, base, grant, repo.rpartition("/")[2])
        said = notice(refused, "bad") + notice(" ".join(advice), "warn")
    except StudioError as error:
        said = notice(str(error), "warn")
    return facts(lines) + said
