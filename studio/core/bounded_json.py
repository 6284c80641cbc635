"""JSON parser for untrusted input, with limits on nesting and on the length of numbers, checked before parsing."""

import json
import re
from collections.abc import Callable

LEVELS = 32
DIGITS = 20
"""Maximum digits of an integer: more than any size, offset or seed has. Python's integers are unbounded, and crafted ones take minutes."""
TEXT = re.compile(r'"(?:[^"\\]|\\.)*+"?', re.DOTALL)
"""A JSON string. The closing quote is optional, so that an unterminated string is scanned once and not again from every quote in it."""
NOT_BRACKETS = re.compile(r"[^\[\]{}]++")


def loads(text: str, object_pairs_hook: Callable[[list[tuple]], object] | None = None):
    """json.loads with limits; ValueError for invalid JSON or input beyond them."""
    _check_depth(text)
    try:
        return json.loads(text, parse_int=_integer, parse_float=_number, object_pairs_hook=object_pairs_hook)
    except RecursionError:
        raise ValueError("it is nested too deeply") from None


def _check_depth(text: str) -> None:
    brackets = NOT_BRACKETS.sub("", TEXT.sub("", text))
    for _ in range(LEVELS):
        if not brackets:
            return
        # Each pass removes empty brackets, at least one level.
        brackets = brackets.replace("[]", "").replace("{}", "")
    if brackets:
        raise ValueError(f"it is nested deeper than {LEVELS} levels, or its brackets do not match")


def _integer(text: str) -> int:
    return int(_short(text))


def _number(text: str) -> float:
    return float(_short(text, 2 * DIGITS))


def _short(text: str, limit: int = DIGITS) -> str:
    if len(text.lstrip("-")) > limit:
        raise ValueError(f"a number has {len(text):,} digits; at most {limit} are allowed")
    return text
