"""StudioError, the error shown to users: what failed, the value, what is allowed, what to do."""

import errno
import traceback
from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

from pydantic import BaseModel, ValidationError

Model = TypeVar("Model", bound=BaseModel)


class StudioError(Exception):
    """An error with a message for the user, shown unchanged; every other exception is a bug and keeps its traceback."""


class Overflow(StudioError):
    """Values that are not finite; as an image they would be black."""


NO_RAM = ("can't allocate memory", "not enough memory")
"""Parts of the messages with which torch reports that the RAM ran out; it has no exception class for that."""


def error_message(error: Exception, log_file: Path) -> str:
    """Message for the user about an exception that failed a job; `log_file` has the traceback."""
    if isinstance(error, StudioError):
        return str(error)
    if isinstance(error, MemoryError) or (isinstance(error, RuntimeError) and any(part in str(error) for part in NO_RAM)):
        return "There is not enough RAM; close other programs, or choose fewer or smaller images."
    if "out of memory" in str(error).lower():
        return "The GPU ran out of memory; choose a smaller image size, fewer images at once, or a smaller base model."
    if isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EDQUOT):
        return "The disk is full; free some space and try again. Files saved before are not affected."
    return f"The job failed because of a bug in the studio ({type(error).__name__}); the details are in {log_file}."


def validated(kind: type[Model], values: dict) -> Model:
    """Validate values from a user or program as a model; StudioError about the first invalid one."""
    try:
        return kind.model_validate(values)
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(str(part) for part in first["loc"])
        raise StudioError(f"{where}: {repr(first['input'])[:60]} does not fit. {first['msg']}.") from None


def traceback_without_messages(error: BaseException, safe_message: Callable[[BaseException], str] = lambda error: "") -> str:
    """A traceback without exception messages: type of each error, files, lines and code. Messages quote values, and a value may be a token.

    `safe_message` returns the message of an error that quotes none, otherwise an empty text.
    """
    chain: list[BaseException] = []
    current: BaseException | None = error
    while current is not None and current not in chain:
        chain.append(current)
        current = current.__cause__ or (None if current.__suppress_context__ else current.__context__)
    heads = [": ".join(filter(None, (type(each).__name__, safe_message(each)))) for each in reversed(chain)]
    return "".join(f"{head}\n{''.join(traceback.format_tb(each.__traceback__))}" for head, each in zip(heads, reversed(chain)))
