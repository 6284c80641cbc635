"""Upload progress: a percentage that never decreases, counted where bytes are read."""

import io
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import BinaryIO, cast

from huggingface_hub import CommitOperationAdd

OnProgress = Callable[[int, int, str], None]
"""Called with (done, total, message)."""

BEFORE_UPLOAD, AFTER_UPLOAD = 10, 85


class Progress:
    """Progress of publishing in percent; a wait changes the message only. Thread-safe, because uploads report from several threads."""

    def __init__(self, on_progress: OnProgress):
        self._on_progress = on_progress
        self._percent = 0
        self._sent = self._to_send = 0
        self._lock = threading.Lock()

    def step(self, percent: int, message: str) -> None:
        self._percent = percent
        self.say(message)

    def say(self, message: str) -> None:
        self._on_progress(self._percent, 100, message)

    def sending(self, total_bytes: int) -> None:
        """Start an upload attempt."""
        self._sent, self._to_send = 0, total_bytes

    def sent(self, new_bytes: int) -> None:
        with self._lock:
            # The client reads a file again on a retry.
            self._sent = min(self._sent + new_bytes, self._to_send)
            share = self._sent / max(1, self._to_send)
            self._percent = int(BEFORE_UPLOAD + (AFTER_UPLOAD - BEFORE_UPLOAD) * share)
            message = f"Sending the files, {self._sent / 1e6:.1f} of {self._to_send / 1e6:.1f} MB"
        self.say(message)


class CountedAdd(CommitOperationAdd):
    """A file that reports how much of it has been read for the upload. (Xet reads files itself and reports nothing.)"""

    def counted_by(self, progress: Progress) -> "CountedAdd":
        self._progress = progress
        return self

    @contextmanager
    def as_file(self, with_tqdm: bool = False) -> Iterator[BinaryIO]:
        with super().as_file() as file:
            yield cast(BinaryIO, _CountedFile(file, self._progress)) if with_tqdm else file


class _CountedFile(io.BufferedIOBase):
    """The part of the file interface that the HTTP client needs."""

    def __init__(self, file: BinaryIO, progress: Progress):
        self._file = file
        self._progress = progress

    def read(self, size: int | None = -1) -> bytes:
        data = self._file.read(-1 if size is None else size)
        self._progress.sent(len(data))
        return data

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        return self._file.seek(offset, whence)

    def tell(self) -> int:
        return self._file.tell()

    def seekable(self) -> bool:
        return True

    def readable(self) -> bool:
        return True
