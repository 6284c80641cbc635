"""Named API endpoints for programs, with type hints. Every other handler of the page is private."""

import gradio as gr

from studio.ui.api import adapters, datasets, images, queue, runs
from studio.ui.studio import Studio, show_errors


def add(studio: Studio) -> None:
    """Call inside the Blocks. The name of an endpoint is the name of its function."""
    for module in (datasets, runs, queue, adapters, images):
        for endpoint in module.endpoints(studio):
            gr.api(show_errors(endpoint), api_name=endpoint.__name__, concurrency_limit=None)
