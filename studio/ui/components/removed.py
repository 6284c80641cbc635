"""List of removed items with buttons to restore or delete them, read from the trash itself, so it survives a reload and a restart."""

import gradio as gr

from studio.core.workspace import Workspace
from studio.runs import trash
from studio.ui.components.html import panel
from studio.ui.components.templates import render
from studio.ui.studio import QUIET, Studio, show_errors

MAX_SHOWN = 20


def listing(workspace: Workspace, kind: str) -> str:
    removed = trash.list_removed(workspace, kind)[:MAX_SHOWN]
    return render("removed", "listing", [(item.id, title) for item, title in removed]) if removed else ""


def build_removed(studio: Studio, kind: str) -> gr.HTML:
    """The list, not laid out yet: the tab places it with render() and wires its event `restore`."""
    shown = panel("", ("restore", "erase"), elem_id=f"removed-{kind}", render=False)

    @show_errors
    def erase(request: gr.Request, event: gr.EventData) -> str:
        workspace = studio.workspace(request)
        workspace.erase(event.id)
        return listing(workspace, kind)

    shown.erase(erase, None, shown, **QUIET)
    return shown
