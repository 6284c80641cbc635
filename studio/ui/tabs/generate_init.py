"""Events of the init image on the Generate tab: chosen from a file or an open image, its strength, removed."""

from dataclasses import replace

import gradio as gr

from studio.core.errors import StudioError
from studio.generation.init_images import keep_init_image
from studio.ui import files
from studio.ui.components import init_image
from studio.ui.components.html import notice
from studio.ui.components.init_image import InitChoice
from studio.ui.studio import QUIET, Studio, show_errors
from studio.ui.tabs.generate_images import Regenerate
from studio.ui.tabs.generate_workbench import Workbench


def show_init(chosen: InitChoice | None) -> tuple[InitChoice | None, str]:
    """The values of `Workbench.chosen_init`."""
    return chosen, init_image.show(chosen)


def wire_init(studio: Studio, workbench: Workbench, rooms: gr.Tabs, regenerate: Regenerate) -> None:
    """Each change generates at once."""
    init, outputs = workbench.init, workbench.chosen_init

    @show_errors
    def use_init(chosen: InitChoice | None, request: gr.Request, event: gr.EventData) -> tuple:
        """An image of any tab that is open large."""
        workspace = studio.workspace(request)
        path = files.find_address(workspace, str(event.address))
        return *show_init(_chosen(chosen, keep_init_image(workspace, path))), gr.Tabs(selected="generate")

    def upload(data: bytes, chosen: InitChoice | None, request: gr.Request) -> tuple:
        try:
            return *show_init(_chosen(chosen, keep_init_image(studio.workspace(request), data))), ""
        except StudioError as error:
            return gr.skip(), gr.skip(), notice(str(error), "bad")

    def set_strength(chosen: InitChoice | None, event: gr.EventData) -> tuple:
        return show_init(replace(chosen, strength=round(float(event.value), 2)) if chosen else None)

    regenerate(workbench.strip.use_init(use_init, init, [*outputs, rooms], **QUIET))
    regenerate(workbench.init_upload.upload(upload, [workbench.init_upload, init], [*outputs, workbench.message], **QUIET), keep_message=True)
    regenerate(workbench.init_panel.set_strength(set_strength, init, outputs, **QUIET))
    regenerate(workbench.init_panel.drop_init(lambda: show_init(None), None, outputs, **QUIET))


def _chosen(before: InitChoice | None, image_id: str) -> InitChoice:
    """Another image keeps the strength that is set."""
    return replace(before, id=image_id) if before else InitChoice(image_id)
