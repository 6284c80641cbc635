"""Image generation on the Generate tab: both images of the form's recipe, the one with LoRAs first."""

from collections.abc import AsyncIterator
from dataclasses import dataclass
from typing import Any, Protocol

import gradio as gr

from studio.core.errors import StudioError
from studio.ui.components import generation, history
from studio.ui.components.html import notice
from studio.ui.studio import QUIET, Studio
from studio.ui.tabs.generate_base import recipe_of
from studio.ui.tabs.generate_workbench import Workbench


class Regenerate(Protocol):
    """Generate after another event; `keep_message` leaves the message of that event on the page."""

    def __call__(self, event: gr.events.Dependency, keep_message: bool = False) -> None: ...


@dataclass(frozen=True)
class ImageGeneration:
    """`event` holds the arguments of the event behind the Generate button."""

    event: dict[str, Any]
    regenerate: Regenerate


def build_generation(studio: Studio, workbench: Workbench) -> ImageGeneration:
    async def generate_images(request: gr.Request, *values):
        """By the button, so a base that is not here yet is downloaded."""
        async for *images, message in generated(studio, request, True, *values):
            yield *images, "", message

    async def regenerate_images(request: gr.Request, *values):
        async for *images, message in generated(studio, request, False, *values):
            yield *images, "", message

    async def regenerate_and_keep_message(request: gr.Request, *values):
        """The message of restoring or adding stays beside the one of generating."""
        async for *images, message in generated(studio, request, False, *values):
            yield *images, gr.skip(), message

    shown = [workbench.base_image, workbench.stack_image, workbench.strip, workbench.message, workbench.generation_message]
    inputs = [workbench.rows, *workbench.form]
    generating = {"fn": generate_images, "inputs": inputs, "outputs": shown, "trigger_mode": "always_last", **QUIET}
    not_busy = {"fn": lambda: _busy(False), "inputs": None, "outputs": workbench.stack_image, **QUIET}

    def regenerate(event: gr.events.Dependency, keep_message: bool = False) -> None:
        handler = regenerate_and_keep_message if keep_message else regenerate_images
        event.then(**(generating | {"fn": handler})).then(**not_busy)

    gr.on([workbench.generate_button.click, workbench.prompt.submit], **generating).then(**not_busy)
    return ImageGeneration(generating, regenerate)


async def generated(studio: Studio, request: gr.Request, requested: bool, rows, *values) -> AsyncIterator[tuple]:
    """(base image, image with LoRAs, history, message) as they change. The image with LoRAs comes first; an image that exists already is shown
    at once, as the base image is while only weights change. `requested`: by the button."""
    owner = studio.owner(request)
    workspace = studio.home.workspace(owner)
    *settings, count = values
    yield gr.skip(), _busy(True), gr.skip(), gr.skip()
    try:
        recipe = recipe_of(workspace, rows, *settings)
        pauses = "Training pauses while this image is generated." if studio.jobs.list(owner, kinds=("train",), states=("running",), limit=1) else ""
        if pauses:
            yield gr.skip(), gr.skip(), gr.skip(), notice(pauses)
        async for panel in generation.generate(studio, owner, recipe, int(count), generation.STACK_TITLE, requested):
            if isinstance(panel, str):
                yield gr.skip(), gr.skip(), gr.skip(), notice(panel or pauses)
            else:
                message = notice(" ".join(panel.notes), "warn")
                yield gr.skip(), _busy(False) | {"value": panel.html}, history.strip(workspace), message
        async for panel in generation.generate(studio, owner, recipe.without_stack(), int(count), generation.BASE_TITLE, requested):
            if not isinstance(panel, str):
                yield panel.html, gr.skip(), history.strip(workspace), gr.skip()
    except (generation.BaseNotDownloaded, generation.ImageWaits) as error:
        yield gr.skip(), gr.skip(), gr.skip(), notice(str(error))
    except StudioError as error:
        yield gr.skip(), gr.skip(), gr.skip(), notice(str(error), "bad")


def _busy(busy: bool) -> dict[str, Any]:
    """Marks the image with LoRAs as being generated; generate.css lays a label over it."""
    return gr.update(elem_classes=["busy"] if busy else [])
