"""Captions of a dataset, as an append-only journal with one change per line, so that every change can be undone. The dataset does the locking."""

import time
from dataclasses import dataclass
from pathlib import Path

from studio.core import journal
from studio.core.damage import ABSENT, NUMBER
from studio.core.errors import StudioError
from studio.datasets.importing.images import clean_text

KEPT_SOURCES = ("hand", "file")
"""Sources of captions that a captioner never overwrites: typed by the user or imported from a file."""
PAUSE_SECONDS = 60
"""Edits of a caption on one page with shorter pauses between them are undone as one change, although each was saved."""

Caption = tuple[str, str]
"""Text and source: hand, file (a .txt beside the image), sample, a captioner's name, or "" for none."""
NONE: Caption = ("", "")
CHANGE = {"id": str, "time": NUMBER, "text": (str, ABSENT), "source": (str, ABSENT), "undo": (bool, ABSENT), "typing": (bool, ABSENT)}
CHANGE |= {"box": (str, ABSENT), "batch": (str, ABSENT)}


class CaptionConflict(StudioError):
    """The caption was changed elsewhere since this edit began; `text` and `source` are the current ones."""

    def __init__(self, text: str, source: str):
        super().__init__(f"This caption was changed elsewhere to {text!r}. Keep one of the two texts; the other stays in its history.")
        self.text, self.source = text, source


@dataclass(frozen=True)
class Edit:
    """Where a typed text comes from."""

    box: str = ""
    """Id of the open page, the same for all of its text boxes; an image has one box on a page. Typing on a caption from one page is undone as one
    change, and a page is never in conflict with itself."""
    base: str | None = None
    """The caption that the edit began from: a caption that was changed to another text elsewhere is not overwritten. None: do not check."""


@dataclass(frozen=True)
class Version:
    """A caption in the history of an image."""

    text: str = ""
    source: str = ""
    box: str = ""
    """Id of the page that it was typed on; empty for one that was not typed, or by an older studio."""
    batch: str = ""
    """Id of the change of many captions that wrote it."""


class Captions:
    """The captions in the journal at the time of reading; create a new instance after other writers."""

    def __init__(self, path: Path):
        self.path = path
        self._history: dict[str, list[Version]] = {}
        self._typed: dict[str, float] = {}
        """image id -> time of the last edit of its current caption, while typing may continue it."""
        for change in journal.read(path, CHANGE):
            self._apply(change)

    def of(self, image_id: str) -> Caption:
        current = self._current(image_id)
        return current.text, current.source

    def is_kept(self, image_id: str, source: str) -> bool:
        """Whether a caption from `source` must not replace the current one: a file never replaces a typed caption, a captioner neither."""
        text, old_source = self.of(image_id)
        protected = () if source == "hand" else ("hand",) if source == "file" else KEPT_SOURCES
        return bool(text) and old_source in protected

    def set(self, image_id: str, text: str, source: str, edit: Edit | None = None) -> bool:
        """Set a caption; False if it is unchanged or the current one is protected. `edit`: it is being typed and may continue.

        CaptionConflict if the caption is no longer the one that the edit began from.
        """
        text = clean_text(text)
        old = self._current(image_id)
        if edit and edit.base is not None and old.text not in (text, clean_text(edit.base)) and not (edit.box and old.box == edit.box):
            raise CaptionConflict(old.text, old.source)
        if (text, source) == (old.text, old.source) or (not text and not old.text) or self.is_kept(image_id, source):
            return False
        self._write(image_id, text, source, **({"typing": True} | ({"box": edit.box} if edit.box else {}) if edit else {}))
        return True

    def leave_empty(self, image_id: str, source: str) -> bool:
        """Note that a captioner does not know the image, which discards only a caption of its own. False if there is another caption."""
        text, old_source = self.of(image_id)
        if text and old_source != source:
            return False
        if (text, old_source) != ("", source):
            self._write(image_id, "", source)
        return True

    def pass_over(self, image_id: str, text: str) -> None:
        """Keep the current caption and put a text that was typed against it into the history, where undo finds it."""
        current = self._current(image_id)
        if (text := clean_text(text)) not in ("", current.text):
            self._write(image_id, text, "hand")
            self._write(image_id, current.text, current.source)

    def change_all(self, texts: dict[str, str], batch: str) -> int:
        """Set many captions as one change, keeping their sources; returns how many changed. `undo_all` with the same `batch` undoes it."""
        changed = {image_id: clean_text(text) for image_id, text in texts.items() if clean_text(text) != self._current(image_id).text}
        for image_id, text in changed.items():
            self._write(image_id, text, self._current(image_id).source, batch=batch)
        return len(changed)

    def undo_all(self, batch: str) -> tuple[int, int]:
        """Undo a change of many captions: how many were restored, and how many were edited since and stay."""
        changed = [image_id for image_id, stack in self._history.items() if any(version.batch == batch for version in stack)]
        unedited = [image_id for image_id in changed if self._current(image_id).batch == batch]
        for image_id in unedited:
            self.undo(image_id)
        return len(unedited), len(changed) - len(unedited)

    def undo(self, image_id: str) -> str:
        """Undo the last change of a caption; returns the restored one."""
        self._append({"id": image_id, "undo": True, "time": time.time()})
        return self.of(image_id)[0]

    def _current(self, image_id: str) -> Version:
        return self._history.get(image_id, [Version()])[-1]

    def _apply(self, change: dict) -> None:
        name, now = change["id"], change["time"]
        stack = self._history.setdefault(name, [Version()])
        typed_on = self._typed.pop(name, None)
        if "undo" in change:
            if len(stack) > 1:
                stack.pop()
            return
        if "text" not in change or "source" not in change:
            return
        box = change.get("box", "")
        if change.get("typing"):
            self._typed[name] = now
            if typed_on is not None and now - typed_on < PAUSE_SECONDS and stack[-1].box == box:
                stack.pop()
        stack.append(Version(change["text"], change["source"], box, change.get("batch", "")))

    def _write(self, image_id: str, text: str, source: str, **more: object) -> None:
        self._append({"id": image_id, "text": text, "source": source, "time": time.time(), **more})

    def _append(self, change: dict) -> None:
        journal.append(self.path, change)
        self._apply(change)
