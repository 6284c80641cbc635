"""Reading the JSON files of a home: a file that was cut, garbled or replaced is an error that names it, not a bug of the code that reads it."""

import json
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any, TypeAlias

from studio.core.errors import StudioError

Shape: TypeAlias = Mapping[str, Any]
"""Required keys of an object and the type or types of their values; other keys are ignored."""
NUMBER = (int, float)
ABSENT = type(None)


def readable_name(path: Path) -> str:
    """The title in an id, without its random part; for something whose title cannot be read."""
    return re.sub(r"-[0-9a-f]{32}$", "", path.stem if path.suffix else path.name)


class Damaged(StudioError):
    """A file that cannot be used. `path` is for the code that sets it aside; the message names only its place in its folder."""

    def __init__(self, path: Path, reason: str):
        super().__init__(f"{readable_name(path.parent)}/{path.name} {reason}.")
        self.path = path


def read_object(path: Path, shape: Shape) -> dict:
    """The object in a JSON file."""
    value = _read(path)
    if problem := problem_of(value, shape):
        raise Damaged(path, problem)
    return value  # type: ignore[return-value]  # checked by problem_of


def read_list(path: Path, shape: Shape) -> list[dict]:
    """The list of objects in a JSON file."""
    value = _read(path)
    if not isinstance(value, list):
        raise Damaged(path, f"contains {_kind(value)} instead of a list")
    for number, entry in enumerate(value, 1):
        if problem := problem_of(entry, shape):
            raise Damaged(path, f"has a damaged entry, number {number}: it {problem}")
    return value


def problem_of(value: object, shape: Shape) -> str:
    """What is wrong with one object; empty if nothing is."""
    if not isinstance(value, dict):
        return f"contains {_kind(value)} instead of an object"
    for name, kinds in shape.items():
        if name not in value and (ABSENT not in kinds if isinstance(kinds, tuple) else True):
            return f"has no {name!r}"
        if not isinstance(value.get(name), kinds):
            return f"has {_kind(value[name])} as {name!r}"
    return ""


def stamps(*paths: Path) -> tuple:
    """Changes when one of these files does: the key under which what was found out about them is kept."""
    return tuple(_stamp(path) for path in paths)


def _stamp(path: Path) -> tuple[int, int] | None:
    try:
        facts = path.stat()
    except OSError:
        return None
    return facts.st_mtime_ns, facts.st_size


def _read(path: Path) -> object:
    try:
        data = path.read_bytes()
    except FileNotFoundError:
        raise Damaged(path, "is missing") from None
    except OSError as error:
        raise Damaged(path, f"cannot be read ({error.strerror})") from None
    if not data.strip():
        raise Damaged(path, "is empty")
    try:
        return json.loads(data)
    except (ValueError, RecursionError):
        raise Damaged(path, "is not valid JSON; it may have been cut off") from None


def _kind(value: object) -> str:
    names = {dict: "an object", list: "a list", str: "a text", bool: "a boolean", int: "a number", float: "a number", ABSENT: "nothing"}
    return names[type(value)]
