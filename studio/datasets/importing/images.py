"""Untrusted pictures, masks, captions and zips, turned into canonical pictures or a reason each. Nothing is decoded in this process.

The work is done by short-lived children (`python -m studio.datasets.importing.decoder`) with limits on memory and time; the death of one refuses
the one file it was looking at, and the next child goes on with the others.
"""

import json
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
from studio.datasets.importing.matching import Decoded, Found, Here, NewMask

SECONDS_FOR_ONE_PICTURE = 40
MOST_DEATHS_FOR_ONE_ARCHIVE = 20
LONGEST_CAPTION = 2000
INHERITED = ("PATH", "SYSTEMROOT", "TEMP", "TMP", "LANG", "LD_LIBRARY_PATH")
"""All that the decoder needs from the environment; tokens stay here."""

# Controls that reorder or hide text (Unicode Bidi_Control, tags, byte order mark); the joiners that emoji and Persian need stay.
HIDDEN = {*range(0x202A, 0x202F), *range(0x2066, 0x206A), 0x200E, 0x200F, 0x061C, 0xFEFF, 0x200B, 0x2060, *range(0xE0000, 0xE0080)}

TERMINAL_CODE = re.compile(r"\x1b\[[0-9;?]*[A-Za-z]|\x1b\][^\x07\x1b]*(?:\x07|\x1b\\)")


def clean_text(text: str, longest: int = LONGEST_CAPTION) -> str:
    """One line of visible text: no control, direction or hidden characters, no terminal codes, and not endless."""
    visible = []
    for character in TERMINAL_CODE.sub("", text[: longest * 4]):
        if character.isspace():
            visible.append(" ")
        elif unicodedata.category(character) not in ("Cc", "Cs") and ord(character) not in HIDDEN:
            visible.append(character)
    return " ".join("".join(visible).split())[:longest]


def decode_files(files: Iterable[dict], folder: Path, report: Callable[[int, int, str], None] | None = None, here: Sequence[Here] = ()) -> Decoded:
    """Decode uploads ({"path", "name"} each: pictures, masks, .txt captions, zips of these) into `folder`.

    Pictures that are pixel for pixel the same come once, with a note. `name.txt` becomes the caption of `name.<anything>` beside it, and
    what `mask_names.masked_by` tells from its name the mask of a picture that came or is `here`. With "mask_of", the id of a picture `here`,
    a file is its mask whatever it is called.
    """
    files = list(files)
    folder.mkdir(parents=True, exist_ok=True)
    found = Found()
    decoder = _Decoder(folder)
    try:
        for index, file in enumerate(files):
            name = clean_text(str(file["name"]), 200) or "a file without a name"
            if report is not None:
                report(index, len(files), f"Reading {name}")
            _read_one(decoder, Path(file["path"]), name, found, file.get("mask_of"))
        fitted = sum(_fit(decoder, mask, picture, found) for mask, picture in found.pair(here))
    finally:
        decoder.end()
    if fitted:
        which = "1 mask was not as large as its picture and was" if fitted == 1 else f"{fitted} masks were not as large as their pictures and were"
        found.decoded.notes.append(f"{which} scaled.")
    return found.decoded


def _read_one(decoder: "_Decoder", path: Path, name: str, found: Found, mask_of: str | None) -> None:
    """Ask for one file, again after each death, past what was already answered."""
    skip, answered, begun = 0, 0, name
    for _ in range(MOST_DEATHS_FOR_ONE_ARCHIVE):
        for message in decoder.ask({"path": str(path), "name": name, "skip": skip, "mask": mask_of is not None}):
            if message["kind"] == "end":
                return
            if message["kind"] == "begin":
                begun, skip = message["name"], message["index"] + 1
            elif message["kind"] == "caption":
                found.take(message | {"text": clean_text(message["text"])})
            else:
                found.take(message, mask_of)
        found.refuse(begun, decoder.last_words)
        if skip == answered:
            return
        answered = skip
    found.refuse(name, f"it stopped the decoder {MOST_DEATHS_FOR_ONE_ARCHIVE} times; the rest of it was left out.")


def _fit(decoder: "_Decoder", mask: NewMask, picture: Here, found: Found) -> bool:
    """Have a mask scaled to its picture; when that fails it is refused, and the picture has none."""
    del found.decoded.masks[picture.id]
    request = {"path": str(decoder.folder / f"mask-{mask.id}.png"), "name": mask.name, "size": [picture.width, picture.height]}
    for message in decoder.ask(request):
        if message["kind"] == "mask":
            found.decoded.masks[picture.id] = replace(mask, id=message["id"], width=picture.width, height=picture.height)
        elif message["kind"] == "refused":
            found.take(message)
    if decoder.child is None:
        found.refuse(mask.name, decoder.last_words)
    return picture.id in found.decoded.masks


class _Decoder:
    """One child at a time, started when needed. `ask` yields its messages and simply ends when it dies (see `last_words`)."""

    def __init__(self, folder: Path):
        self.folder = folder
        self.child = None
        self.messages = queue.SimpleQueue()
        self.last_words = ""

    def ask(self, request: dict) -> Iterator[dict]:
        self._start()
        try:
            self.child.stdin.write(json.dumps(request).encode() + b"\n")
            self.child.stdin.flush()
        except OSError:
            self._bury("the decoder could not start.")
            return
        while True:
            try:
                line = self.messages.get(timeout=SECONDS_FOR_ONE_PICTURE)
            except queue.Empty:
                self._bury(f"decoding it took more than {SECONDS_FOR_ONE_PICTURE} seconds; save it again as PNG or JPEG.")
                return
            if line is None:
                self._bury("the decoder stopped while reading it; the file is damaged or made to do harm. Save it again as PNG or JPEG.")
                return
            message = json.loads(line)
            yield message
            if message["kind"] == "end":
                return

    def _start(self) -> None:
        if self.child is not None:
            return
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
        threading.Thread(target=_pass_on, args=(self.child.stdout, self.messages), daemon=True).start()

    def _bury(self, reason: str) -> None:
        self.last_words = reason
        self.end()

    def end(self) -> None:
        if self.child is not None:
            self.child.kill()
            self.child.wait()
            self.child.stdin.close()
            self.child = None


def _pass_on(stream, messages: queue.SimpleQueue) -> None:
    with stream:
        for line in stream:
            # A line cut short by death is no message.
            if line.endswith(b"\n"):
                messages.put(line)
    messages.put(None)


def need_pictures(decoded: Decoded) -> None:
    """Raise when nothing at all could be used, with the first reasons."""
    if not decoded.pictures and not decoded.captions and not decoded.masks:
        reasons = " ".join(item["reason"] for item in decoded.refused[:3])
        raise StudioError(f"None of these files could be used. {reasons}".strip())
