"""What was removed, with the way back: read from the trash itself, so that it outlives the page and the studio."""

import gradio as gr

from studio.core.workspace import Workspace
from studio.runs import trash
from studio.ui.components.html import panel, text
from studio.ui.studio import QUIET, Studio, in_words

SHOWN = 20


def listing(workspace: Workspace, kind: str) -> str:
    items = "".join(
        f"<li><span>{text(title)}</span>"
        f'<button class="tool" data-click="restore" data-id="{text(each.id)}" aria-label="Put {text(title)} back">Put back</button>'
        f'<button class="tool" data-click="erase" data-id="{text(each.id)}" aria-label="Delete {text(title)} for good" '
        f'data-confirm="Delete “{text(title)}” for good? This cannot be undone.">Delete for good</button></li>'
        for each, title in trash.list_removed(workspace, kind)[:SHOWN]
    )
    return f'<h3 class="part">Removed</h3><ul class="removed">{items}</ul>' if items else ""


def build_removed(studio: Studio, kind: str) -> gr.HTML:
    """The list, not laid out yet: whoever builds the tab places it with render() and wires `restore`."""
    shown = panel("", ("restore", "erase"), elem_id=f"removed-{kind}", render=False)

    @in_words
    def erase(request: gr.Request, event: gr.EventData):
        workspace = studio.workspace(request)
        workspace.erase(event.id)
        return listing(workspace, kind)

    shown.erase(erase, None, shown, **QUIET)
    return shown
