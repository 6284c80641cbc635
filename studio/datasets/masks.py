"""The masks of a dataset: which picture has which, one change a line, so that every one can be taken back.

masks.jsonl         {"id": picture, "mask": sha256 of the mask's pixels or null, "time"} or {"id", "undo": true, "time"}
masks/<sha256>.png  8-bit grey, as large as its picture: light parts teach, dark ones do not

No locks here; the dataset holds them. No pixels either: the decoder child makes the files.
"""

import os
import time
from collections import Counter
from pathlib import Path

from studio.core import journal
from studio.datasets.importing.matching import NewMask


class Masks:
    """What the file says, as of now: read once, so ask anew after somebody else may have written."""

    def __init__(self, dataset: Path):
        self.path = dataset / "masks.jsonl"
        self.folder = dataset / "masks"
        self._history: dict[str, list[str | None]] = {}
        for change in journal.read(self.path):
            self._take(change)

    def of(self, picture_id: str) -> Path | None:
        """The file of a picture's mask; its name is the hash of its pixels."""
        mask = self._history.get(picture_id, [None])[-1]
        return self.folder / f"{mask}.png" if mask else None

    def can_go_back(self, picture_id: str) -> bool:
        return len(self._history.get(picture_id, [])) > 1

    def take(self, new: dict[str, NewMask], folder: Path, names: dict[str, str]) -> tuple[int, list[str]]:
        """Give pictures (id -> name in `names`) what was decoded into `folder` for them; how many got a mask, and what a person should know.

        What was decided about a picture's mask before stands against its transparency.
        """
        given, notes = Counter(), []
        for picture_id, mask in new.items():
            if picture_id not in names:
                notes.append(f"{mask.name} was left out: its picture was taken out in the meantime.")
            elif not (mask.transparent and picture_id in self._history):
                self._keep(folder / f"mask-{mask.id}.png", mask.id)
                if self.set(picture_id, mask.id):
                    given[mask.transparent] += 1
                else:
                    notes.append(f"{mask.name} is the mask that {names[picture_id]} has already.")
        if given[False]:
            notes.append(f"{'1 picture' if given[False] == 1 else f'{given[False]} pictures'} got a mask. Only the light parts teach.")
        if given[True]:
            those = "1 picture is" if given[True] == 1 else f"{given[True]} pictures are"
            notes.append(f"{those} transparent in places. Transparent parts do not teach, unless “Use masks” is off on the Train tab.")
        return given.total(), notes

    def _keep(self, file: Path, sha256: str) -> None:
        # The same mask may come for several pictures.
        self.folder.mkdir(exist_ok=True)
        target = self.folder / f"{sha256}.png"
        if not target.exists():
            os.replace(file, target)

    def set(self, picture_id: str, sha256: str | None) -> bool:
        """Give a picture a mask that is kept here, or none; False when that is how it is already."""
        if self._history.get(picture_id, [None])[-1] == sha256:
            return False
        self._append({"id": picture_id, "mask": sha256, "time": time.time()})
        return True

    def undo(self, picture_id: str) -> Path | None:
        """Back to before the last change; returns the mask that then counts."""
        if self.can_go_back(picture_id):
            self._append({"id": picture_id, "undo": True, "time": time.time()})
        return self.of(picture_id)

    def _take(self, change: dict) -> None:
        stack = self._history.setdefault(change["id"], [None])
        if "undo" not in change:
            stack.append(change["mask"])
        elif len(stack) > 1:
            stack.pop()

    def _append(self, change: dict) -> None:
        journal.append(self.path, change)
        self._take(change)
