"""Settings as TOML text (v1.0.0). Python reads TOML and does not write it; these are the few kinds of value that settings have."""

import json
from collections.abc import Mapping

Value = bool | int | float | str | list[str]


def document(tables: Mapping[str, Mapping[str, Value]], comment: str = "") -> str:
    """Tables of plain keys. Empty ones are left out; None cannot be said in TOML and is an error."""
    parts = [f"# {comment}\n"] if comment else []
    for name, table in tables.items():
        if table:
            lines = [f"[{name}]", *(f"{key} = {written(value)}" for key, value in table.items())]
            parts.append("\n".join(lines) + "\n")
    return "\n".join(parts)


def written(value: Value) -> str:
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, str):
        # JSON escapes what TOML must, in the same way, but for DEL; surrogate pairs, which TOML refuses, never appear when all else stays as it is.
        return json.dumps(value, ensure_ascii=False).replace("\x7f", "\\u007f")
    if isinstance(value, list):
        return f"[{', '.join(written(each) for each in value)}]"
    if isinstance(value, int | float):
        return repr(value)
    raise TypeError(f"{type(value).__name__} cannot be written as TOML")
