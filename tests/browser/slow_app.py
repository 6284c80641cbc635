"""The studio on a slow server: `python -m tests.browser.slow_app`. A change of a trigger word takes a second, and so do the list of presets, which a
new filling of the Train form needs, and the message that the stream of answers ends."""

import asyncio
import runpy
import time
from collections.abc import AsyncIterator
from typing import Any

from studio.datasets.dataset import Dataset
from studio.runs import starting_points

SECONDS = 1.0
set_trigger_word = Dataset.set_trigger_word
list_choices = starting_points.list_choices


def set_slowly(dataset: Dataset, word: str, base: str | None = None) -> None:
    time.sleep(SECONDS)
    set_trigger_word(dataset, word, base)


def list_slowly(*about: Any) -> list:
    time.sleep(SECONDS)
    return list_choices(*about)


async def end_slowly(messages: AsyncIterator[str]) -> AsyncIterator[str]:
    async for message in messages:
        if '"close_stream"' in message:
            await asyncio.sleep(SECONDS)
        yield message


def slow_down() -> None:
    from studio.ui import quick_import  # noqa: F401, I001 - before Gradio
    from gradio import routes

    class Slow(routes.StreamingResponse):
        def __init__(self, content: AsyncIterator[str], **options):
            super().__init__(end_slowly(content), **options)

    routes.StreamingResponse = Slow
    Dataset.set_trigger_word = set_slowly
    starting_points.list_choices = list_slowly


if __name__ == "__main__":
    slow_down()
    runpy.run_path("app.py", run_name="__main__")
