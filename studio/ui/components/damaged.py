"""List of things that cannot be read, above the tabs: each with the reason, to be looked at or set aside."""

import gradio as gr

from studio.core import platform
from studio.core.access import Mode
from studio.core.errors import StudioError
from studio.core.workspace import Workspace
from studio.runs import damage
from studio.ui.components import removed
from studio.ui.components.html import panel
from studio.ui.components.templates import render
from studio.ui.studio import QUIET, Studio, show_errors

MOST = 20


def listing(workspace: Workspace, local: bool) -> str:
    found = damage.find(workspace)[:MOST]
    return render("damaged", "listing", [(damage.place(workspace, each), each.kind, each.title, each.reason, each.movable) for each in found], local)


def build(studio: Studio) -> gr.HTML:
    """The list; `wire_set_aside` connects its other button, once there are lists of removed items."""
    shown = panel("", ("open_folder", "set_aside"), elem_id="damaged")
    local = _has_folders(studio)

    def list_damaged(request: gr.Request) -> str:
        return listing(studio.workspace(request), local)

    @show_errors
    def open_folder(request: gr.Request, event: gr.EventData) -> None:
        """On this computer only: elsewhere it would open a window on the server."""
        workspace = studio.workspace(request)
        for thing in damage.find(workspace) if local else ():
            if damage.place(workspace, thing) == event.place:
                try:
                    platform.show_in_folder(thing.path)
                except OSError as error:
                    raise StudioError(f"The folder {thing.path} cannot be shown: {error.strerror}.") from None
                return
        raise StudioError("This is no longer damaged, or was already set aside; reload the page.")

    gr.on(None, list_damaged, None, shown, **QUIET)
    shown.open_folder(open_folder, None, None, **QUIET)
    return shown


def wire_set_aside(studio: Studio, shown: gr.HTML, lists: dict[str, gr.HTML]) -> None:
    """`lists`: kind of removed items -> its list, in which what is set aside appears at once."""
    local = _has_folders(studio)

    @show_errors
    def set_aside(request: gr.Request, event: gr.EventData) -> tuple[str, ...]:
        workspace = studio.workspace(request)
        damage.set_aside(workspace, str(event.place))
        gr.Info("Set aside: nothing was deleted, and it can be restored under Removed.")
        return listing(workspace, local), *(removed.listing(workspace, kind) for kind in lists)

    shown.set_aside(set_aside, None, [shown, *lists.values()], **QUIET)

    def list_restored(request: gr.Request) -> str:
        """What was set aside is still damaged when it is restored. This runs in the turn of the list, after the list's own handler."""
        return listing(studio.workspace(request), local)

    for each in lists.values():
        each.restore(list_restored, None, shown, **QUIET)


def _has_folders(studio: Studio) -> bool:
    """Whether a folder can be opened: the page is on the studio's computer."""
    return studio.access.mode is Mode.local and platform.has_file_manager()
