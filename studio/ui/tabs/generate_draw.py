"""Drawing on the Generate tab: both pictures of the recipe in the form, the one with LoRAs first."""

from collections.abc import Callable
from dataclasses import dataclass

import gradio as gr

from studio.core.errors import StudioError
from studio.ui.components import generation, history
from studio.ui.components.html import notice
from studio.ui.studio import QUIET, Studio
from studio.ui.tabs.generate_base import recipe_of
from studio.ui.tabs.generate_bench import Bench


@dataclass(frozen=True)
class Drawing:
    """`asked` is the event of pressing Draw; `redraw(event)` draws after another one; `redraw(event, keep=True)` leaves what that one said."""

    asked: dict
    redraw: Callable


def build_drawing(studio: Studio, bench: Bench) -> Drawing:
    async def drawn(request: gr.Request, fetch: bool, rows, *values):
        """The right plate first; each comes at once if it was drawn before, as the left one was while only weights move."""
        owner = studio.owner(request)
        *settings, count = values
        yield gr.skip(), _busy(True), gr.skip(), gr.skip()
        try:
            wanted = recipe_of(studio.home.workspace(owner), rows, *settings)
            if studio.jobs.list(owner, kinds=("train",), states=("running",), limit=1):
                yield gr.skip(), gr.skip(), gr.skip(), notice("Training pauses for a moment while this is drawn.")
            right = await generation.draw(studio, owner, wanted, int(count), generation.STACK_TITLE, fetch)
            drawings = history.strip(studio.home.workspace(owner))
            yield gr.skip(), _busy(False) | {"value": right.html}, drawings, notice(" ".join(right.notes), "warn")
            left = await generation.draw(studio, owner, wanted.without_stack(), int(count), generation.BASE_TITLE, fetch)
            yield left.html, gr.skip(), history.strip(studio.home.workspace(owner)), gr.skip()
        except generation.ToBeFetched as error:
            yield gr.skip(), gr.skip(), gr.skip(), notice(str(error))
        except StudioError as error:
            yield gr.skip(), gr.skip(), gr.skip(), notice(str(error), "bad")

    async def draw(request: gr.Request, *values):
        """Asked for, so a base that is not here yet is fetched."""
        async for *plates, news in drawn(request, True, *values):
            yield *plates, "", news

    async def draw_again(request: gr.Request, *values):
        async for *plates, news in drawn(request, False, *values):
            yield *plates, "", news

    async def draw_and_keep(request: gr.Request, *values):
        """What restoring or adding had to say stays, beside what drawing has to say."""
        async for *plates, news in drawn(request, False, *values):
            yield *plates, gr.skip(), news

    shown = [bench.base_plate, bench.stack_plate, bench.strip, bench.said, bench.news]
    asked = {"fn": draw, "inputs": [bench.rows, *bench.form], "outputs": shown, "trigger_mode": "always_last", **QUIET}
    calm = {"fn": lambda: _busy(False), "inputs": None, "outputs": bench.stack_plate, **QUIET}

    def redraw(event, keep: bool = False):
        event.then(**(asked | {"fn": draw_and_keep if keep else draw_again})).then(**calm)

    gr.on([bench.go.click, bench.prompt.submit], **asked).then(**calm)
    return Drawing(asked, redraw)


def _busy(busy: bool) -> dict:
    """How the plate with LoRAs looks while it is drawn; style.css lays a word over it."""
    return gr.update(elem_classes=["busy"] if busy else [])
