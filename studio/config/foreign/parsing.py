"""Parsers for untrusted settings files: TOML, JSON, and the subset of YAML that JSON can express."""

import json
import tomllib
from collections.abc import Callable
from typing import Any

from studio.config.foreign.reader import short

DEEPEST = 24
MOST_NODES = 50_000


def parse(text: str, ending: str) -> Any:
    """Parse text into plain values; ValueError, with the reason, if it is invalid or nested too deep."""
    try:
        values = PARSERS[ending](text)
    except RecursionError:
        raise ValueError("it is nested too deep for settings") from None
    if _too_deep(values):
        raise ValueError("it is nested too deep for settings")
    return values


def _yaml(text: str) -> Any:
    import yaml

    loader = yaml.CSafeLoader if yaml.__with_libyaml__ else yaml.SafeLoader
    try:
        _check(yaml, text, loader)
        return yaml.load(text, loader)  # noqa: S506 - both loaders are safe ones
    except yaml.YAMLError as error:
        # libyaml since 0.2.6 reads ahead and reports excessive depth before the first event.
        raise ValueError("it is nested too deep for settings" if "nesting depth" in str(error) else str(error)) from None


def _check(yaml, text: str, loader: type) -> None:
    """Reject unsafe YAML before it is loaded: aliases (a few lines can expand to gigabytes), type tags, too many nodes, too much depth."""
    depth = 0
    for nodes, event in enumerate(yaml.parse(text, loader)):
        if isinstance(event, yaml.AliasEvent):
            raise ValueError("it uses aliases (*name), which are not supported; write the values out")
        if isinstance(event, yaml.NodeEvent) and event.tag is not None:
            raise ValueError(f"it has the type tag {short(event.tag)}; only plain values are supported")
        if isinstance(event, yaml.CollectionStartEvent):
            depth += 1
        elif isinstance(event, yaml.CollectionEndEvent):
            depth -= 1
        if depth > DEEPEST or nodes > MOST_NODES:
            raise ValueError("it is too deep or too long for settings")


def _too_deep(values: Any) -> bool:
    level = [values]
    for _ in range(DEEPEST):
        level = [inner for each in level if isinstance(each, dict | list) for inner in (each.values() if isinstance(each, dict) else each)]
    return bool(level)


PARSERS: dict[str, Callable[[str], Any]] = {".toml": tomllib.loads, ".json": json.loads, ".yaml": _yaml, ".yml": _yaml}
