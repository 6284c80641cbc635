"""TOML writer (v1.0.0) for the few types of value that settings have; the standard library only reads TOML."""

import json
from collections.abc import Mapping

Value = bool | int | float | str | list[str]


def dumps(tables: Mapping[str, Mapping[str, Value]], comment: str = "") -> str:
    """Tables with plain keys as TOML text. Empty tables are omitted; None has no TOML form and is an error."""
    parts = [f"# {comment}\n"] if comment else []
    for name, table in tables.items():
        if table:
            lines = [f"[{name}]", *(f"{key} = {format_value(value)}" for key, value in table.items())]
            parts.append("\n".join(lines) + "\n")
    return "\n".join(parts)


def format_value(value: Value) -> str:
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, str):
        # JSON escapes what TOML must escape, in the same way, except DEL. Without ASCII escaping no surrogate pairs appear, which TOML forbids.
        return json.dumps(value, ensure_ascii=False).replace("\x7f", "\\u007f")
    if isinstance(value, list):
        return f"[{', '.join(format_value(each) for each in value)}]"
    if isinstance(value, int | float):
        return repr(value)
    raise TypeError(f"{type(value).__name__} cannot be format_value as TOML")
