"""Faster import of Gradio: half the time. Import this module before anything that imports Gradio."""

import inspect
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

# Before Gradio: pydantic searches every loaded module for the docstrings of the settings, 0.05 s more with Gradio's 1,500.
from studio import config  # noqa: F401
from studio.core.imports import without_garbage_collection


@contextmanager
def _without_stub_files() -> Iterator[None]:
    """At each import Gradio 6.31 parses its 81 component classes to rewrite their .pyi files (component_meta.create_or_modify_pyi), one second of
    two. It skips a class whose source file cannot be found, such as one made at run time; during the import its own classes look like that.
    """
    find = inspect.getfile

    def find_others(found: Any) -> str:
        if inspect.isclass(found) and found.__module__.startswith("gradio."):
            raise OSError("no stub file is needed to run")
        return find(found)

    inspect.getfile = find_others  # type: ignore[assignment]  # the same signature with a wider argument
    try:
        yield
    finally:
        inspect.getfile = find


with without_garbage_collection(), _without_stub_files():
    import gradio  # noqa: F401 - the import is the purpose
