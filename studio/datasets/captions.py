"""Captions of a dataset, as an append-only journal with one change per line, so that every change can be undone. The dataset does the locking."""

import time
from pathlib import Path

from studio.core import journal
from studio.core.damage import ABSENT, NUMBER
from studio.datasets.importing.images import clean_text

KEPT_SOURCES = ("hand", "file")
"""Sources of captions that a captioner never overwrites: typed by the user or imported from a file."""
PAUSE_SECONDS = 60
"""Edits with shorter pauses between them are undone as one change, although each was saved."""

Caption = tuple[str, str]
"""Text and source: hand, file (a .txt beside the image), sample, a captioner's name, or "" for none."""
NONE: Caption = ("", "")
CHANGE = {"id": str, "time": NUMBER, "text": (str, ABSENT), "source": (str, ABSENT), "undo": (bool, ABSENT), "typing": (bool, ABSENT)}


class Captions:
    """The captions in the journal at the time of reading; create a new instance after other writers."""

    def __init__(self, path: Path):
        self.path = path
        self._history: dict[str, list[Caption]] = {}
        self._typed: dict[str, float] = {}
        """image id -> time of the last edit of its current caption."""
        for change in journal.read(path, CHANGE):
            self._apply(change)

    def of(self, image_id: str) -> Caption:
        return self._history.get(image_id, [NONE])[-1]

    def is_kept(self, image_id: str, source: str) -> bool:
        """Whether a caption from `source` must not replace the current one: a file never replaces a typed caption, a captioner neither."""
        text, old_source = self.of(image_id)
        protected = () if source == "hand" else ("hand",) if source == "file" else KEPT_SOURCES
        return bool(text) and old_source in protected

    def set(self, image_id: str, text: str, source: str, typing: bool = False) -> bool:
        """Set a caption; False if it is unchanged or the current one is protected. `typing`: the edit may continue."""
        text = clean_text(text)
        old_text, old_source = self.of(image_id)
        if (text, source) == (old_text, old_source) or (not text and not old_text) or self.is_kept(image_id, source):
            return False
        self._append({"id": image_id, "text": text, "source": source, "time": time.time()} | ({"typing": True} if typing else {}))
        return True

    def undo(self, image_id: str) -> str:
        """Undo the last change of a caption; returns the restored one."""
        self._append({"id": image_id, "undo": True, "time": time.time()})
        return self.of(image_id)[0]

    def _apply(self, change: dict) -> None:
        name, now = change["id"], change["time"]
        stack = self._history.setdefault(name, [NONE])
        typed_on = self._typed.pop(name, None)
        if "undo" in change:
            if len(stack) > 1:
                stack.pop()
            return
        if "text" not in change or "source" not in change:
            return
        if change.get("typing"):
            self._typed[name] = now
            if typed_on is not None and now - typed_on < PAUSE_SECONDS:
                stack.pop()
        stack.append((change["text"], change["source"]))

    def _append(self, change: dict) -> None:
        journal.append(self.path, change)
        self._apply(change)
