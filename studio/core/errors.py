"""StudioError, the error shown to users: what failed, the value, what is allowed, what to do."""

import traceback
from collections.abc import Callable
from typing import TypeVar

from pydantic import BaseModel, ValidationError

Model = TypeVar("Model", bound=BaseModel)


class StudioError(Exception):
    """An error with a message for the user, shown unchanged; every other exception is a bug and keeps its traceback."""


class Overflow(StudioError):
    """Values that are not finite; as an image they would be black."""


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
