"""The page's Blocks: no event of a field is lost, the number of values in a call is checked before any is read, and no value is printed.

By default Gradio 6.31 drops every event that comes while the handler of the one before runs (trigger_mode "once"): the last letter typed, the
second of two ticks. TRIGGER_MODES says what happens instead, for every handler of the page; a tab need not repeat it.

Gradio 6.31 prints a traceback for wrong input, and its message contains values: all of them if there are too few
(`Blocks.validate_inputs`), the first 200 characters of one that a component cannot read (`_format_processing_error`), and whatever
an exception of a handler quotes (queueing.py and routes.py print every exception without `print_exception=False`). A value may be a token.
"""

import asyncio
import inspect
import logging
from collections.abc import AsyncIterator, Hashable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

import gradio as gr
from gradio.blocks import BlockFunction
from gradio.components.api_component import Api
from gradio.utils import get_function_params

from studio.core.errors import traceback_without_messages
from studio.core.storage import DiskFull, is_full
from studio.ui.components.html import TURN, html
from studio.ui.hidden_paths import HiddenPaths

log = logging.getLogger(__name__)

THEN = "then"
PANEL = "panel"
TRIGGER_MODES = {
    # Runs once more with the newest values after the handler that was running: the last value is never lost, and no queue of old ones builds up.
    **dict.fromkeys(("change", "input", "select", "blur", "release", "key_up", THEN), "always_last"),
    # Each carries data of its own (which row, which files), so each is handled.
    **dict.fromkeys((PANEL, "upload"), "multiple"),
    # Dropped while the one before is handled: a double click must not start two runs, and the next tick comes anyway.
    **dict.fromkeys(("click", "submit", "load", "tick"), "once"),
}
"""Kind of event -> what Gradio's page does with one that comes while its handler runs. A tab may ask for more than "once", never for less."""

CREATES = frozenset({"use_samples", "retry", "extend", "copy", "start_from"})
"""Events of panels that make something new or fill a form. They are treated like clicks."""


def trigger_mode(app: gr.Blocks, block_fn: BlockFunction) -> str:
    """Trigger mode of a handler by the events that call it. Of several kinds the one that loses least decides."""
    modes = {TRIGGER_MODES[_kind(app, block_id, event)] for block_id, event in block_fn.targets if event not in CREATES}
    return next((mode for mode in ("multiple", "always_last") if mode in modes | {block_fn.trigger_mode}), "once")


def is_panel_event(app: gr.Blocks, block_id: int | None, event: str) -> bool:
    """Whether this is an event of components/html.panel, which carries the data of a row."""
    return event not in TRIGGER_MODES and block_id is not None and isinstance(app.blocks.get(block_id), gr.HTML)


def _kind(app: gr.Blocks, block_id: int | None, event: str) -> str:
    return PANEL if is_panel_event(app, block_id, event) else event


@dataclass(eq=False)
class Turn:
    """A handler that runs or waits; it shares components, or its function, with those that must have ended before it."""

    shared: frozenset[Hashable]
    ended: asyncio.Event = field(default_factory=asyncio.Event)


class Page(gr.Blocks):
    expects_oauth = False
    """Whether Gradio adds its routes for a Hub login; Gradio's own property looks for a gr.LoginButton, which the page cannot have."""

    hidden_paths = HiddenPaths()

    def __init__(self, *args: Any, **kwargs: Any):
        super().__init__(*args, **kwargs)
        self.turns: dict[str, list[Turn]] = {}
        """Session -> the handlers of its page that run or wait for their turn, in the order they came."""
        self.sent_back: frozenset[int] = frozenset()
        """Ids of the components whose values come back to a handler: what the user edits, not what the page tells."""

    def __enter__(self) -> "Page":
        """Called by Gradio before the page is built.

        `nowhere` stands for the outputs of handlers with hidden progress: several times for each event Gradio's page copies the properties of
        everything that has ever shown progress, hidden or not, and of all that stands inside it, which took seconds after an event that chose a
        tab. It searches the page for each of them, and this one stands first.
        """
        super().__enter__()
        self.nowhere = html(visible=False)
        return self

    def create_limiter(self) -> None:
        """Called by Gradio at the start. As many threads as ever: the slots of waiting.py beyond these wait, and need no thread."""
        self.limiter = None

    def __exit__(self, exc_type: type[BaseException] | None = None, *args) -> None:
        """Called by Gradio when the page is built; it then writes the page's configuration, with the trigger modes."""
        for block_fn in self.fns.values():
            block_fn.trigger_mode = trigger_mode(self, block_fn)
            if block_fn.show_progress == "hidden":
                block_fn.show_progress_on = [self.nowhere]
            if self._turns(block_fn):
                # Gradio starts what waits in one queue in the order it came, and of several queues in any order.
                block_fn.concurrency_id, block_fn.concurrency_limit = TURN, None
        inputs = {block for block_fn in self.fns.values() for block in block_fn.inputs if not isinstance(block, gr.HTML)}
        # What is edited in a panel comes back to the panel's functions: captions.
        panels = {block for block in self.blocks.values() if isinstance(block, gr.HTML) and block.server_fns}
        self.sent_back = frozenset(block._id for block in inputs | panels)
        super().__exit__(exc_type, *args)

    @asynccontextmanager
    async def turn(self, block_fn: BlockFunction, session: str | None) -> AsyncIterator[None]:
        """Handlers of one panel, those that set one component of the class TURN, and calls of one handler by several events run one after the
        other in the order they were sent, for each open page by itself: a tick adds to the list of the last one, the newest word is stored last,
        and a form shows what follows from its newest values. Handlers that wait for a job take no turns."""
        if session is None or inspect.iscoroutinefunction(block_fn.fn) or inspect.isasyncgenfunction(block_fn.fn):
            yield
            return
        line = self.turns.setdefault(session, [])
        mine = Turn(self._turns(block_fn) or frozenset([block_fn.fn]))
        before = [each for each in line if each.shared & mine.shared]
        line.append(mine)
        try:
            for each in before:
                await each.ended.wait()
            yield
        finally:
            line.remove(mine)
            mine.ended.set()
            if not line:
                del self.turns[session]

    def _turns(self, block_fn: BlockFunction) -> frozenset[Hashable]:
        """Ids of the components in whose turn this handler runs."""
        shared = {block._id for block in block_fn.outputs if TURN in (getattr(block, "elem_classes", None) or ())}
        return frozenset(shared | {block_id for block_id, event in block_fn.targets if is_panel_event(self, block_id, event)})

    def validate_inputs(self, block_fn: BlockFunction, inputs: list) -> None:
        """Called by Gradio before it reads a value. Unlike Gradio's own, it also refuses too many values instead of ignoring them."""
        expected, sent = len(block_fn.inputs), len(inputs)
        if sent < expected or (sent > expected and not block_fn.cancels):
            names = f" ({', '.join(_names(block_fn))})" if expected else ""
            raise gr.Error(
                f"/{block_fn.api_name} failed: values expected: {expected}{names}, sent: {sent}. Send exactly these, in this order.",
                print_exception=False,
            )

    async def process_api(self, block_fn: BlockFunction, *args, **kwargs) -> dict:
        """Called by Gradio to turn a call's values into its answer; `args` and `kwargs` are passed through."""
        try:
            async with self.turn(block_fn, kwargs.get("session_hash")):
                return await self._answer(block_fn, *args, **kwargs)
        except gr.Error as error:
            if block_fn.trigger_mode == "always_last" and (event_id := kwargs.get("event_id")):
                # After an error Gradio's page forgets the event that waits for its turn, so the error is shown and the call itself ends well.
                self._queue.log_message(event_id, str(error.message), error.title, "warning", error.duration, error.visible)
                return _unchanged(block_fn)
            raise

    async def _answer(self, block_fn: BlockFunction, *args, **kwargs) -> dict:
        try:
            answer = await super().process_api(block_fn, *args, **kwargs)
            return {**answer, "data": [self._hide(block._id, value) for block, value in zip(block_fn.outputs, answer["data"], strict=True)]}
        except gr.Error as error:
            error.message = self.hidden_paths.hide(error.message)
            # Dropdowns and numbers quote the invalid value; the caller may read it, the log must not.
            error.print_exception = False
            raise
        except DiskFull as error:
            raise gr.Error(str(error), print_exception=False) from None
        except Exception as error:  # noqa: BLE001 - any exception of a handler, which Gradio would print
            if is_full(error):
                raise gr.Error(str(DiskFull("this")), print_exception=False) from None
            log.error("/%s failed\n%s", block_fn.api_name, traceback_without_messages(error))
            advice = "Check each value against the types on the API's page; the server's log shows where it failed."
            message = f"/{block_fn.api_name} failed ({type(error).__name__}). {advice}"
            raise gr.Error(message, visible=False, print_exception=False) from None

    def _hide(self, block_id: int, value: Any) -> Any:
        return self.hidden_paths.hide_around(value) if block_id in self.sent_back else self.hidden_paths.hide(value)


def _unchanged(block_fn: BlockFunction) -> dict:
    """An answer of Gradio's process_api that changes nothing on the page."""
    ended: dict[str, Any] = {
        "is_generating": False,
        "iterator": None,
        "duration": 0.0,
        "average_duration": 0.0,
        "render_config": None,
        "changed_state_ids": [],
    }
    return {"data": [None if isinstance(each, gr.State) else gr.skip() for each in block_fn.outputs], **ended}


def _names(block_fn: BlockFunction) -> list[str]:
    """Names of the values: an endpoint's parameters, or the labels of the page's fields."""
    if all(isinstance(block, Api) for block in block_fn.inputs):
        return [name for name, *_ in get_function_params(block_fn.fn)]
    return [block.label or block.get_block_name() for block in block_fn.inputs]
