"""Import of untrusted images, masks, captions and zips as canonical images. Nothing is decoded in this process.

Short-lived child processes (`python -m studio.datasets.importing.decoder`) with limits on memory and time decode the files. If one dies, its
current file is rejected and the next process continues with the others.
"""

import json
import logging
import os
import queue
import re
import subprocess
import threading
import unicodedata
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path

from studio.core import platform
from studio.core.errors import StudioError
from studio.datasets.importing.matching import BatchCollector, Decoded, MaskTarget, NewMask

log = logging.getLogger(__name__)

SECONDS_PER_IMAGE = 40
MOST_CRASHES_PER_ARCHIVE = 20
LONGEST_CAPTION = 2000
INHERITED = ("PATH", "SYSTEMROOT", "TEMP", "TMP", "LANG", "LD_LIBRARY_PATH")
"""Environment variables for the decoder; it gets no tokens."""

# Characters that reorder or hide text (Unicode Bidi_Control, tags, byte order mark); joiners for emoji and Persian are allowed.
HIDDEN = {*range(0x202A, 0x202F), *range(0x2066, 0x206A), 0x200E, 0x200F, 0x061C, 0xFEFF, 0x200B, 0x2060, *range(0xE0000, 0xE0080)}

TERMINAL_CODE = re.compile(r"\x1b\[[0-9;?]*[A-Za-z]|\x1b\][^\x07\x1b]*(?:\x07|\x1b\\)")


def clean_text(text: str, longest: int = LONGEST_CAPTION) -> str:
    """One line of visible text: no control, direction or hidden characters, no terminal codes, limited length."""
    visible = []
    for character in TERMINAL_CODE.sub("", text[: longest * 4]):
        if character.isspace():
            visible.append(" ")
        elif unicodedata.category(character) not in ("Cc", "Cs") and ord(character) not in HIDDEN:
            visible.append(character)
    return " ".join("".join(visible).split())[:longest]


def decode_files(
    files: Iterable[dict], folder: Path, report: Callable[[int, int, str], None] | None = None, existing: Sequence[MaskTarget] = ()
) -> Decoded:
    """Decode uploads ({"path", "name"} each: images, masks, .txt captions, zips of these) into `folder`.

    Images with equal pixels are added once, with a note. `name.txt` becomes the caption of `name.<anything>` beside it. A file with a mask's
    name (`mask_names.masked_stems`) becomes the mask of a new or `existing` image; with "mask_of", the id of an existing image, any file does.
    """
    files = list(files)
    folder.mkdir(parents=True, exist_ok=True)
    batch = BatchCollector()
    decoder = _Decoder(folder)
    try:
        for index, file in enumerate(files):
            name = clean_text(str(file["name"]), 200) or "a file without a name"
            if report is not None:
                report(index, len(files), f"Reading {name}")
            _read_one(decoder, Path(file["path"]), name, batch, file.get("mask_of"))
        scaled = sum(_scale(decoder, mask, image, batch) for mask, image in batch.pair(existing))
    finally:
        decoder.end()
    if scaled:
        which = "1 mask differed in size from its image and was" if scaled == 1 else f"{scaled} masks differed in size from their images and were"
        batch.decoded.notes.append(f"{which} scaled.")
    return batch.decoded


def _read_one(decoder: "_Decoder", path: Path, name: str, batch: BatchCollector, mask_of: str | None) -> None:
    """Request one file; after each crash continue past the members that were already answered."""
    skip, answered, current = 0, 0, name
    for _ in range(MOST_CRASHES_PER_ARCHIVE):
        for message in decoder.request({"path": str(path), "name": name, "skip": skip, "mask": mask_of is not None}):
            if message["kind"] == "end":
                return
            if message["kind"] == "begin":
                current, skip = message["name"], message["index"] + 1
            elif message["kind"] == "caption":
                batch.add(message | {"text": clean_text(message["text"])})
            else:
                batch.add(message, mask_of)
        batch.reject(current, decoder.failure)
        if skip == answered:
            return
        answered = skip
    batch.reject(name, f"it crashed the decoder {MOST_CRASHES_PER_ARCHIVE} times; the rest was skipped.")


def _scale(decoder: "_Decoder", mask: NewMask, image: MaskTarget, batch: BatchCollector) -> bool:
    """Scale a mask to its image; if that fails, the mask is rejected."""
    del batch.decoded.masks[image.id]
    request = {"path": str(decoder.folder / f"mask-{mask.id}.png"), "name": mask.name, "size": [image.width, image.height]}
    for message in decoder.request(request):
        if message["kind"] == "mask":
            batch.decoded.masks[image.id] = replace(mask, id=message["id"], width=image.width, height=image.height)
        elif message["kind"] == "refused":
            batch.add(message)
    if decoder.child is None:
        batch.reject(mask.name, decoder.failure)
    return image.id in batch.decoded.masks


class _Decoder:
    """The decoder process, started on demand. `request` yields its messages and stops if it dies (see `failure`)."""

    def __init__(self, folder: Path):
        self.folder = folder
        self.child: subprocess.Popen[bytes] | None = None
        self.messages: queue.SimpleQueue[bytes | None] = queue.SimpleQueue()
        self.failure = ""

    def request(self, request: dict) -> Iterator[dict]:
        requests = self._started().stdin
        assert requests is not None, "The decoder is started with a pipe."
        try:
            requests.write(json.dumps(request).encode() + b"\n")
            requests.flush()
        except OSError:
            self._fail("the decoder could not start.")
            return
        while True:
            try:
                line = self.messages.get(timeout=SECONDS_PER_IMAGE)
            except queue.Empty:
                self._fail(f"decoding it took more than {SECONDS_PER_IMAGE} seconds; save it again as PNG or JPEG.")
                return
            if line is None:
                self._fail("it crashed the decoder, so it is damaged or malicious; save it again as PNG or JPEG.")
                return
            message = json.loads(line)
            yield message
            if message["kind"] == "end":
                return

    def _started(self) -> "subprocess.Popen[bytes]":
        if self.child is not None:
            return self.child
        env = {name: os.environ[name] for name in INHERITED if name in os.environ}
        env["PYTHONPATH"] = platform.environment()["PYTHONPATH"]
        self.child = subprocess.Popen(
            platform.module_command("studio.datasets.importing.decoder", self.folder),
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            env=env,
        )
        self.messages = queue.SimpleQueue()
        threading.Thread(target=_forward, args=(self.child.stdout, self.messages), daemon=True).start()
        return self.child

    def _fail(self, reason: str) -> None:
        self.failure, child = reason, self.child
        self.end()
        log.warning("the decoder process failed: %s Its exit status is %s.", reason, child and child.returncode)

    def end(self) -> None:
        if self.child is not None:
            self.child.kill()
            self.child.wait()
            if self.child.stdin is not None:
                self.child.stdin.close()
            self.child = None


def _forward(stream, messages: queue.SimpleQueue) -> None:
    with stream:
        for line in stream:
            # An incomplete line of a crashed process is ignored.
            if line.endswith(b"\n"):
                messages.put(line)
    messages.put(None)


def require_images(decoded: Decoded) -> None:
    """StudioError with the first reasons if no file could be used."""
    if not decoded.images and not decoded.captions and not decoded.masks:
        reasons = " ".join(item["reason"] for item in decoded.refused[:3])
        raise StudioError(f"None of these files could be used. {reasons}".strip())
