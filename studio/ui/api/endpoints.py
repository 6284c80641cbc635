"""Named API endpoints for programs, with type hints. Every other handler of the page is private."""

import functools
import inspect
from collections.abc import Callable

import gradio as gr

from studio.ui.api import adapters, datasets, images, queue, runs
from studio.ui.studio import Studio, show_errors


def add(studio: Studio) -> None:
    """Call inside the Blocks. The name of an endpoint is the name of its function."""
    for module in (datasets, runs, queue, adapters, images):
        for endpoint in module.endpoints(studio):
            gr.api(show_errors(seated(studio, endpoint)), api_name=endpoint.__name__, concurrency_limit=None)


def seated(studio: Studio, endpoint: Callable) -> Callable:
    """An endpoint that waits for its job (`async`) takes a seat of the waiting room."""
    if not inspect.iscoroutinefunction(endpoint):
        return endpoint

    @functools.wraps(endpoint)
    async def waiting(*values: object) -> object:
        with studio.waiting.seat():
            return await endpoint(*values)

    return waiting
