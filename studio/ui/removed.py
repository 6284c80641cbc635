"""What was removed, with the way back: read from the trash itself, so that it outlives the page and the studio."""

from collections.abc import Callable

import gradio as gr

from studio.dataset import Dataset
from studio.runs import Run
from studio.ui.html import panel, text
from studio.ui.studio import QUIET, Studio, in_words
from studio.workspace import Trashed, Workspace

SHOWN = 20
TITLES: dict[str, Callable] = {"datasets": lambda path: Dataset(path).title, "runs": lambda path: Run(path).title}
"""Folder of a workspace -> the title of what was removed from it."""


def removed(workspace: Workspace, kind: str) -> list[tuple[Trashed, str]]:
    """(what, its title) of one kind, newest removal first."""
    return [(each, TITLES[kind](each.content)) for each in workspace.trashed() if each.original.parent.name == kind]


def listing(workspace: Workspace, kind: str) -> str:
    items = "".join(
        f"<li><span>{text(title)}</span>"
        f'<button class="tool" data-click="restore" data-id="{text(each.id)}" aria-label="Put {text(title)} back">Put back</button>'
        f'<button class="tool" data-click="erase" data-id="{text(each.id)}" aria-label="Delete {text(title)} for good" '
        f'data-confirm="Delete “{text(title)}” for good? This cannot be undone.">Delete for good</button></li>'
        for each, title in removed(workspace, kind)[:SHOWN]
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
