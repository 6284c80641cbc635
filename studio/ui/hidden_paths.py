"""Paths of the server, removed from everything that the page and its endpoints tell others than the user of this computer."""

import html
import json
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from jinja2.filters import FILTERS

from studio.core import platform
from studio.core.access import Access, Mode
from studio.core.workspace import Home


class HiddenPaths:
    """`hide(value)` replaces the beginning of each path in texts, also inside lists and dictionaries. A message keeps its meaning: "see the
    studio's folder/logs/worker.log"."""

    def __init__(self, folders: Sequence[tuple[Path, str]] = ()):
        found = {spelling: name for folder, name in folders for spelling in _spellings(str(folder))}
        # A folder inside another has its own name.
        self.names = sorted(found.items(), key=lambda each: len(each[0]), reverse=True)

    @classmethod
    def of(cls, home: Home, access: Access) -> "HiddenPaths":
        """None are hidden in local mode, where they help."""
        if access.mode is Mode.local:
            return cls()
        hub = [os.environ.get("HF_HOME") or Path.home() / ".cache" / "huggingface", os.environ.get("HF_HUB_CACHE")]
        caches = [(Path(each).expanduser().absolute(), "the cache of the Hub") for each in hub if each]
        return cls([*caches, (platform.REPOSITORY, "the studio's program"), (home.root, "the studio's folder")])

    def hide(self, value: Any) -> Any:
        if not self.names:
            return value
        if isinstance(value, str):
            for path, name in self.names:
                value = value.replace(path, name)
            return value
        if isinstance(value, dict):
            return {key: self.hide(each) for key, each in value.items()}
        if isinstance(value, list | tuple):
            return type(value)(self.hide(each) for each in value)
        return value

    def hide_around(self, value: Any) -> Any:
        """As `hide`, for a component whose value comes back with the next event: the value itself stays as it is, also as a choice. It is what the
        user entered, and a rewritten one would be stored."""
        if not isinstance(value, dict) or value.get("__type__") != "update":
            return value
        hidden = {name: each if name == "value" else self.hide(each) for name, each in value.items()}
        if isinstance(choices := value.get("choices"), list):
            pairs = [isinstance(each, list | tuple) and len(each) == 2 for each in choices]
            hidden["choices"] = [(self.hide(each[0]), each[1]) if pair else each for each, pair in zip(choices, pairs, strict=True)]
        return hidden


def _spellings(path: str) -> set[str]:
    """The path as it stands in a text, in JSON and in HTML."""
    written = {path, *(json.dumps(path, ensure_ascii=ascii_only)[1:-1] for ascii_only in (True, False))}
    # Jinja2 writes quotes in another way than Python does.
    escape = FILTERS["escape"]
    return {*written, *(html.escape(each) for each in written), *(str(escape(each)) for each in written)}
