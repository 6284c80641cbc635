"""The page's Blocks: what a caller sends is counted before anything reads it, and never printed.

Gradio 6.31 answers wrong input by printing a traceback whose message lists the values: all of them when there are too few
(`Blocks.validate_inputs`), the first 200 characters of one that a component cannot read (`_format_processing_error`), and whatever
an exception of a handler quotes (queueing.py and routes.py print every exception that does not say otherwise). One of them may be a token.
"""

import logging

import gradio as gr
from gradio.blocks import BlockFunction
from gradio.components.api_component import Api
from gradio.utils import get_function_params

from studio.core.errors import traceback_without_messages

log = logging.getLogger(__name__)


class Page(gr.Blocks):
    expects_oauth = False
    """Whether Gradio adds its routes for a login at the Hub; its own property looks for a gr.LoginButton, which the page cannot have."""

    def validate_inputs(self, block_fn: BlockFunction, inputs: list) -> None:
        """Gradio calls this before it reads a value. Unlike its own, it refuses too many values as well: ignored in silence, they misled."""
        expected, sent = len(block_fn.inputs), len(inputs)
        if sent < expected or (sent > expected and not block_fn.cancels):
            names = f" ({', '.join(_names(block_fn))})" if expected else ""
            raise gr.Error(
                f"/{block_fn.api_name} failed: values expected: {expected}{names}, sent: {sent}. Send exactly these, in this order.",
                print_exception=False,
            )

    async def process_api(self, block_fn: BlockFunction, *given, **named) -> dict:
        """Gradio's way from a call's values to its answer; `given` and `named` are whatever it hands over."""
        try:
            return await super().process_api(block_fn, *given, **named)
        except gr.Error as error:
            # Dropdowns and numbers quote what does not fit; the caller may read that.
            error.print_exception = False
            raise
        except Exception as error:  # noqa: BLE001 - raised by anything behind the page, and printed by Gradio if it went on
            log.error("/%s failed\n%s", block_fn.api_name, traceback_without_messages(error))
            advice = "Check that each value is of the kind that the API's page asks for; the server's log says where it failed."
            message = f"/{block_fn.api_name} failed ({type(error).__name__}). {advice}"
            raise gr.Error(message, visible=False, print_exception=False) from None


def _names(block_fn: BlockFunction) -> list[str]:
    """What the values are called: an endpoint's parameters, or the labels of the page's fields."""
    if all(isinstance(block, Api) for block in block_fn.inputs):
        return [name for name, *_ in get_function_params(block_fn.fn)]
    return [block.label or block.get_block_name() for block in block_fn.inputs]
