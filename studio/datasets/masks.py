"""Masks of a dataset, as an append-only journal with one change per line, so that every change can be undone.

masks.jsonl         {"id": image, "mask": sha256 of the mask's pixels or null, "time"} or {"id", "undo": true, "time"}
masks/<sha256>.png  8-bit greyscale of the image's size: light parts are trained on, dark ones are not

The dataset does the locking; the decoder process writes the files.
"""

import time
from collections import Counter
from pathlib import Path

from studio.core import journal, storage
from studio.core.damage import ABSENT, NUMBER
from studio.datasets.importing.matching import NewMask

CHANGE = {"id": str, "time": NUMBER, "mask": (str, ABSENT), "undo": (bool, ABSENT)}


class Masks:
    """The masks in the journal at the time of reading; create a new instance after other writers."""

    def __init__(self, dataset: Path):
        self.path = dataset / "masks.jsonl"
        self.folder = dataset / "masks"
        self._history: dict[str, list[str | None]] = {}
        for change in journal.read(self.path, CHANGE):
            self._apply(change)

    def of(self, image_id: str) -> Path | None:
        """The file of an image's mask; its name is the hash of its pixels."""
        mask = self._history.get(image_id, [None])[-1]
        return self.folder / f"{mask}.png" if mask else None

    def can_undo(self, image_id: str) -> bool:
        return len(self._history.get(image_id, [])) > 1

    def add(self, new: dict[str, NewMask], folder: Path, names: dict[str, str]) -> tuple[int, list[str]]:
        """Add masks decoded into `folder` to images (id -> name in `names`); returns how many were added, and notes for the user.

        An alpha channel never replaces an earlier decision on an image's mask.
        """
        added: Counter[bool] = Counter()
        notes: list[str] = []
        for image_id, mask in new.items():
            if image_id not in names:
                notes.append(f"{mask.name} was skipped: its image was removed in the meantime.")
            elif not (mask.transparent and image_id in self._history):
                self._keep(folder / f"mask-{mask.id}.png", mask.id)
                if self.set(image_id, mask.id):
                    added[mask.transparent] += 1
                else:
                    notes.append(f"{names[image_id]} already has the mask {mask.name}.")
        if added[False]:
            notes.append(f"{'1 image' if added[False] == 1 else f'{added[False]} images'} got a mask. Only the light parts are trained on.")
        if added[True]:
            those = "1 image has" if added[True] == 1 else f"{added[True]} images have"
            notes.append(f"{those} transparent parts. They are not trained on, unless “Masked training” is off on the Train tab.")
        return added.total(), notes

    def _keep(self, file: Path, sha256: str) -> None:
        # Several images may have the same mask.
        self.folder.mkdir(exist_ok=True)
        target = self.folder / f"{sha256}.png"
        if not target.exists():
            storage.replace_file(file, target)

    def set(self, image_id: str, sha256: str | None) -> bool:
        """Set the mask of an image, or None; False if it is unchanged."""
        if self._history.get(image_id, [None])[-1] == sha256:
            return False
        self._append({"id": image_id, "mask": sha256, "time": time.time()})
        return True

    def undo(self, image_id: str) -> Path | None:
        """Undo the last change of an image's mask; returns the restored one."""
        if self.can_undo(image_id):
            self._append({"id": image_id, "undo": True, "time": time.time()})
        return self.of(image_id)

    def _apply(self, change: dict) -> None:
        stack = self._history.setdefault(change["id"], [None])
        if "undo" not in change:
            stack.append(change.get("mask"))
        elif len(stack) > 1:
            stack.pop()

    def _append(self, change: dict) -> None:
        journal.append(self.path, change)
        self._apply(change)
