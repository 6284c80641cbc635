"""Import Gradio in half the time. Import this module before anything that imports Gradio."""

import gc
import inspect
from collections.abc import Iterator
from contextlib import contextmanager

# Before Gradio: pydantic finds the docstrings of the settings through every module that is loaded by then, 0.05 s more with Gradio's 1,500.
from studio import config  # noqa: F401


@contextmanager
def _without_stub_files() -> Iterator[None]:
    """At each import gradio 6.31 parses its 81 component classes again to rewrite their .pyi files (component_meta.create_or_modify_pyi),
    one second of two. It leaves a class alone whose source file cannot be found, as for one made at run time; for as long as
    Gradio is imported, that is what its own classes look like.
    """
    find = inspect.getfile

    def find_others(thing):
        if inspect.isclass(thing) and thing.__module__.startswith("gradio."):
            raise OSError("no stub file is needed to run")
        return find(thing)

    inspect.getfile = find_others
    try:
        yield
    finally:
        inspect.getfile = find


@contextmanager
def _without_collections() -> Iterator[None]:
    """An import makes hundreds of thousands of objects that live as long as the process. Looking for garbage among them costs a fifth of the
    import, and again 0.1 s in the middle of the first page; frozen, they are never looked at again.
    """
    gc.disable()
    try:
        yield
    finally:
        gc.freeze()
        gc.enable()


with _without_collections(), _without_stub_files():
    import gradio  # noqa: F401 - the import is the purpose
