"""Faster import of PEFT: a sixth of the imports of a training. Import this module before anything that imports PEFT."""

import contextlib
import sys
from collections.abc import Iterator
from typing import Any

import torch


@contextlib.contextmanager
def _without_compiler() -> Iterator[None]:
    """bitsandbytes 0.50, which PEFT imports, decorates four functions with torch.compile, and that imports all of Inductor, 0.9 s. They serve
    devices for which bitsandbytes has no kernels, and run there without torch.compile too.
    """
    compile_ = torch.compile

    def decorate(function: Any = None, **_: object) -> Any:
        return function or (lambda later: later)

    torch.compile = decorate  # type: ignore[assignment]  # answers for the decorators of that package only
    try:
        yield
    finally:
        torch.compile = compile_


# On a Mac such functions are all that bitsandbytes has.
if sys.platform != "darwin":
    with _without_compiler(), contextlib.suppress(ImportError):
        import bitsandbytes  # noqa: F401 - the import is the purpose
