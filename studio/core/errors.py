"""The one error that reaches people: a sentence with what happened, the value, what is allowed, what to do."""

import traceback
from typing import TypeVar

from pydantic import BaseModel, ValidationError

Model = TypeVar("Model", bound=BaseModel)


class StudioError(Exception):
    """A sentence a user can act on. It is shown as it stands; every other exception is a bug and keeps its traceback."""


class Overflow(StudioError):
    """Numbers that are not finite any more; as an image they would be black."""


def validated(kind: type[Model], values: dict) -> Model:
    """Values that a person or a program gave as a model, or a StudioError about the first that does not fit."""
    try:
        return kind.model_validate(values)
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(str(part) for part in first["loc"])
        raise StudioError(f"{where}: {repr(first['input'])[:60]} does not fit. {first['msg']}.") from None


def without_values(error: BaseException) -> str:
    """A traceback without the messages: the kind of each error, files, lines and code. Messages quote values, and a value may be a token."""
    chain: list[BaseException] = []
    while error is not None and error not in chain:
        chain.append(error)
        error = error.__cause__ or (None if error.__suppress_context__ else error.__context__)
    return "".join(f"{type(each).__name__}\n{''.join(traceback.format_tb(each.__traceback__))}" for each in reversed(chain))
