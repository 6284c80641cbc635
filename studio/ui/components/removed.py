"""What was removed, with the way back: read from the trash itself, so that it outlives the page and the studio."""

import gradio as gr

from studio.core.workspace import Workspace
from studio.runs import trash
from studio.ui.components.html import panel
from studio.ui.components.templates import render
from studio.ui.studio import QUIET, Studio, show_errors

SHOWN = 20


def listing(workspace: Workspace, kind: str) -> str:
    gone = trash.list_removed(workspace, kind)[:SHOWN]
    return render("removed", "listing", [(each.id, title) for each, title in gone]) if gone else ""


def build_removed(studio: Studio, kind: str) -> gr.HTML:
    """The list, not laid out yet: whoever builds the tab places it with render() and wires `restore`."""
    shown = panel("", ("restore", "erase"), elem_id=f"removed-{kind}", render=False)

    @show_errors
    def erase(request: gr.Request, event: gr.EventData):
        workspace = studio.workspace(request)
        workspace.erase(event.id)
        return listing(workspace, kind)

    shown.erase(erase, None, shown, **QUIET)
    return shown
