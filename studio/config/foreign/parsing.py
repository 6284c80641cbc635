"""Text that nobody vouches for as plain values: TOML, JSON, and of YAML what JSON could say as well."""

import json
import tomllib
from typing import Any

from studio.config.foreign.border import short

DEEPEST = 24
MOST_NODES = 50_000


def parsed(text: str, ending: str) -> Any:
    """ValueError, with the reason, for text that cannot be read, or that is nested deeper than settings are."""
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
        # libyaml since 0.2.6 looks ahead and gives up by itself before the first event.
        raise ValueError("it is nested too deep for settings" if "nesting depth" in str(error) else str(error)) from None


def _check(yaml, text: str, loader: type) -> None:
    """Before anything is built: no aliases (a few lines of them grow into gigabytes), no types, nothing endless or too deep to walk."""
    depth = 0
    for nodes, event in enumerate(yaml.parse(text, loader)):
        if isinstance(event, yaml.AliasEvent):
            raise ValueError("it uses aliases (*name), which settings do not need; write the values out")
        if isinstance(event, yaml.NodeEvent) and event.tag is not None:
            raise ValueError(f"it asks for the type {short(event.tag)}; only plain values are read")
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


PARSERS = {".toml": tomllib.loads, ".json": json.loads, ".yaml": _yaml, ".yml": _yaml}
