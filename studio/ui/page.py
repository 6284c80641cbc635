"""The page's Blocks: the number of values in a call is checked before any is read, and no value is printed.

Gradio 6.31 prints a traceback for wrong input, and its message contains values: all of them if there are too few
(`Blocks.validate_inputs`), the first 200 characters of one that a component cannot read (`_format_processing_error`), and whatever
an exception of a handler quotes (queueing.py and routes.py print every exception without `print_exception=False`). A value may be a token.
"""

import logging

import gradio as gr
from gradio.blocks import BlockFunction
from gradio.components.api_component import Api
from gradio.utils import get_function_params

from studio.core.errors import traceback_without_messages
from studio.core.storage import DiskFull, is_full
from studio.ui.hidden_paths import HiddenPaths

log = logging.getLogger(__name__)


class Page(gr.Blocks):
    expects_oauth = False
    """Whether Gradio adds its routes for a Hub login; Gradio's own property looks for a gr.LoginButton, which the page cannot have."""

    hidden_paths = HiddenPaths()

    def create_limiter(self) -> None:
        """Called by Gradio at the start. As many threads as ever: the slots of waiting.py beyond these wait, and need no thread."""
        self.limiter = None

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
            answer = await super().process_api(block_fn, *args, **kwargs)
            return {**answer, "data": self.hidden_paths.hide(answer["data"])}
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


def _names(block_fn: BlockFunction) -> list[str]:
    """Names of the values: an endpoint's parameters, or the labels of the page's fields."""
    if all(isinstance(block, Api) for block in block_fn.inputs):
        return [name for name, *_ in get_function_params(block_fn.fn)]
    return [block.label or block.get_block_name() for block in block_fn.inputs]
