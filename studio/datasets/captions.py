"""The captions of a dataset: one line a change, never rewritten, so that every one can be taken back. No locks here; the dataset holds them."""

import time
from pathlib import Path

from studio.core import journal
from studio.datasets.importing.images import clean_text

KEPT_SOURCES = ("hand", "file")
"""Captions that people wrote or brought: no captioner overwrites them."""
PAUSE_SECONDS = 60
"""What is typed with shorter pauses is one change to whoever takes it back, though it was saved word by word."""

Caption = tuple[str, str]
"""Text and source: hand, file (a .txt beside the picture), sample, a captioner's name, or "" for none."""
NONE: Caption = ("", "")


class Captions:
    """What the file says, as of now: read once, so ask anew after somebody else may have written."""

    def __init__(self, path: Path):
        self.path = path
        self._history: dict[str, list[Caption]] = {}
        self._typed: dict[str, float] = {}
        """picture id -> when its present caption was last typed on."""
        for change in journal.read(path):
            self._take(change)

    def of(self, picture_id: str) -> Caption:
        return self._history.get(picture_id, [NONE])[-1]

    def is_kept(self, picture_id: str, source: str) -> bool:
        """Whether a picture's caption stays although `source` brings another: a file never writes over a hand, a captioner over neither."""
        text, old_source = self.of(picture_id)
        kept = () if source == "hand" else ("hand",) if source == "file" else KEPT_SOURCES
        return bool(text) and old_source in kept

    def set(self, picture_id: str, text: str, source: str, typing: bool = False) -> bool:
        """False when nothing was written: it is the same, or somebody's words are kept. `typing`: more of it may follow in a moment."""
        text = clean_text(text)
        old_text, old_source = self.of(picture_id)
        if (text, source) == (old_text, old_source) or (not text and not old_text) or self.is_kept(picture_id, source):
            return False
        self._append({"id": picture_id, "text": text, "source": source, "time": time.time()} | ({"typing": True} if typing else {}))
        return True

    def undo(self, picture_id: str) -> str:
        """Back to the caption before the last change; returns it."""
        self._append({"id": picture_id, "undo": True, "time": time.time()})
        return self.of(picture_id)[0]

    def _take(self, change: dict) -> None:
        name, now = change["id"], change["time"]
        stack = self._history.setdefault(name, [NONE])
        typed_on = self._typed.pop(name, None)
        if "undo" in change:
            if len(stack) > 1:
                stack.pop()
            return
        if change.get("typing"):
            self._typed[name] = now
            if typed_on is not None and now - typed_on < PAUSE_SECONDS:
                stack.pop()
        stack.append((change["text"], change["source"]))

    def _append(self, change: dict) -> None:
        journal.append(self.path, change)
        self._take(change)
