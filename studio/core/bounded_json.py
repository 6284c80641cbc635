"""JSON from strangers, with bounds on nesting and on the length of a number, both checked before anything is computed."""

import json
import re
from collections.abc import Callable

LEVELS = 32
DIGITS = 20
"""Of a whole number: more than any size, offset or seed has. Python computes with numbers of any length, for minutes with crafted ones."""
TEXT = re.compile(r'"(?:[^"\\]|\\.)*+"?', re.DOTALL)
"""A JSON string. The closing quote is optional, so that one without an end is looked at once and not again from every quote in it."""
NOT_BRACKETS = re.compile(r"[^\[\]{}]++")


def loads(text: str, object_pairs_hook: Callable[[list[tuple]], object] | None = None):
    """What json.loads returns; ValueError for anything that is no JSON or goes beyond these bounds."""
    _refuse_depth(text)
    try:
        return json.loads(text, parse_int=_whole_number, parse_float=_number, object_pairs_hook=object_pairs_hook)
    except RecursionError:
        raise ValueError("it is nested too deeply") from None


def _refuse_depth(text: str) -> None:
    brackets = NOT_BRACKETS.sub("", TEXT.sub("", text))
    for _ in range(LEVELS):
        if not brackets:
            return
        # Each pass takes away what holds nothing any more, one level at least.
        brackets = brackets.replace("[]", "").replace("{}", "")
    if brackets:
        raise ValueError(f"it is nested deeper than {LEVELS} levels, or its brackets do not match")


def _whole_number(text: str) -> int:
    return int(_short(text))


def _number(text: str) -> float:
    return float(_short(text, 2 * DIGITS))


def _short(text: str, limit: int = DIGITS) -> str:
    if len(text.lstrip("-")) > limit:
        raise ValueError(f"a number has {len(text):,} digits; at most {limit} are read")
    return text
