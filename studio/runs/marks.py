"""Marks of a run: its name, stars, and whether it resumes without a click. The user can change them at any time. No torch.

They are stored in marks.json, apart from the config and the dataset: nothing here enters an adapter file. Runs of earlier versions have none.
"""

import json
from dataclasses import asdict, dataclass, fields, replace
from pathlib import Path
from typing import Any

from studio.core.locks import FileLock
from studio.core.workspace import write_atomically

NAME = "marks.json"


@dataclass(frozen=True)
class Marks:
    """Marks of one run."""

    name: str = ""
    """Empty: the title that the run was created with."""
    automatic: bool = False
    """Whether the studio made the name."""
    starred: bool = False
    starred_steps: tuple[int, ...] = ()
    """Checkpoints with a star."""
    resumes: bool = False
    """Whether training resumes without a click after it ended unexpectedly."""


def read(folder: Path) -> Marks:
    """Marks of the run in this folder; values that are missing or damaged are the defaults."""
    try:
        values = json.loads((folder / NAME).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return Marks()
    values = values if isinstance(values, dict) else {}
    steps = values.get("starred_steps")
    values["starred_steps"] = tuple(step for step in steps if type(step) is int) if isinstance(steps, list) else ()
    default = asdict(Marks())
    return Marks(**{each.name: values[each.name] for each in fields(Marks) if type(values.get(each.name)) is type(default[each.name])})


def change(folder: Path, **changes: Any) -> Marks:
    """Change some marks; the others stay, also when two pages change different ones at once."""
    with FileLock(folder / "marks.lock", "The marks of a run", wait=True):
        marks = replace(read(folder), **changes)
        write_atomically(folder / NAME, json.dumps(asdict(marks), indent=1, sort_keys=True).encode())
        return marks
