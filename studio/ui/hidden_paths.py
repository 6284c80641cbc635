"""Paths of the server, removed from everything that the page and its endpoints send to others than the user of this computer."""

import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from studio.core import platform
from studio.core.access import Access, Mode
from studio.core.workspace import Home


class HiddenPaths:
    """`hide(value)` replaces the beginning of each path in texts, also inside lists and dictionaries. A message keeps its meaning: "see the
    studio's folder/logs/worker.log"."""

    def __init__(self, folders: Sequence[tuple[Path, str]] = ()):
        self.names = [(str(folder), name) for folder, name in folders]

    @classmethod
    def of(cls, home: Home, access: Access) -> "HiddenPaths":
        """None are hidden in local mode, where they help."""
        if access.mode is Mode.local:
            return cls()
        cache = Path(os.environ.get("HF_HOME") or Path.home() / ".cache" / "huggingface")
        return cls([(home.root, "the studio's folder"), (platform.REPOSITORY, "the studio's program"), (cache, "the cache of the Hub")])

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
