"""Headers of .safetensors files, read by hand and refused before a weight is touched. No torch here.

Only the header is read, so a strange file costs its header's size and nothing more.
"""

import math
import re
import struct
from dataclasses import dataclass
from pathlib import Path

from studio.core import bounded_json
from studio.core.errors import StudioError

SAFE_NAME = re.compile(r"[A-Za-z0-9_.\-]{1,300}")
BYTES = {"F64": 8, "F32": 4, "F16": 2, "BF16": 2, "F8_E4M3": 1, "F8_E5M2": 1, "BOOL": 1}
BYTES |= {f"{sign}{bits}": bits // 8 for sign in "IU" for bits in (8, 16, 32, 64)}
MOST_DIMENSIONS = 8
"""Of a tensor; convolutions over time, the largest here, have five."""
A_PICKLE = "is a pickle, which can run code when opened; only .safetensors files are used. Look for that version."


@dataclass(frozen=True)
class Limits:
    """How much a header of one kind of file may say; `kind` names it in a refusal."""

    kind: str
    tensors: int
    header_bytes: int
    empty: bool = False
    """Whether tensors without a number in them are honest: trainers mark whole models with them."""


LORA = Limits("a LoRA", 20_000, 8 * 1024**2)
# The largest single file of the families here has some 3,000 tensors, in packed form six times that.
CHECKPOINT = Limits("a base model", 60_000, 16 * 1024**2, empty=True)


@dataclass(frozen=True)
class Header:
    """What a safetensors file says about itself."""

    tensors: dict[str, tuple[str, tuple[int, ...]]]
    metadata: dict[str, str]

    @property
    def shapes(self) -> dict[str, tuple[int, ...]]:
        return {name: shape for name, (_, shape) in self.tensors.items()}


def read_header(path: Path, limits: Limits = LORA) -> Header:
    """The header of a safetensors file after every check that needs no weights; StudioError says what is wrong with the file."""
    with open(path, "rb") as file:
        start = file.read(8)
        size = path.stat().st_size
        length = struct.unpack("<Q", start)[0] if len(start) == 8 else 0
        # The length comes first: a good file's may begin with the very bytes that mark a zip (19,280) or a pickle (640, 1,152).
        if not 2 <= length <= min(limits.header_bytes, size - 8):
            raise StudioError(f"{path.name} {_kind(start)}")
        raw = file.read(length)
    try:
        items = bounded_json.loads(raw.decode("utf-8"), _without_duplicates)
        metadata = items.pop("__metadata__", {})
        entries = {name: _described(entry) for name, entry in items.items()}
    except (ValueError, KeyError, TypeError, AttributeError):
        raise StudioError(f"{path.name} is not a .safetensors file that can be read: its header is damaged. Get it again.") from None
    if not isinstance(metadata, dict) or not all(isinstance(value, str) for value in metadata.values()):
        raise StudioError(f"{path.name} has a damaged header: its metadata is not text. Get the file again.")
    if len(entries) > limits.tensors:
        raise StudioError(f"{path.name} holds {len(entries):,} tensors; {limits.kind} has at most {limits.tensors:,}.")
    _check_layout(path.name, entries, size - 8 - length, limits.empty)
    return Header({name: (dtype, shape) for name, (dtype, shape, _, _) in entries.items()}, metadata)


def _kind(start: bytes) -> str:
    """What a file is instead of a safetensors file, told from its first bytes, and what to do about it."""
    if start[:1] == b"\x80" and start[1:2] in (b"\x02", b"\x03", b"\x04", b"\x05"):
        return A_PICKLE
    if start[:4] == b"PK\x03\x04":
        return "is a zip: an archive to unpack first, or a pickle (.pt, .ckpt), which can run code when opened. Only .safetensors files are used."
    if start == b"version ":
        return "is a git-lfs pointer, a note of where the file lies; fetch the file itself with `git lfs pull` or from its page."
    return "is not a whole .safetensors file: it is damaged, cut off or of another kind. Get it again."


def _without_duplicates(pairs: list[tuple]) -> dict:
    if len({key for key, _ in pairs}) < len(pairs):
        raise ValueError("duplicate key")
    return dict(pairs)


def _described(entry: dict) -> tuple[str, tuple[int, ...], int, int]:
    """dtype, shape, begin and end of one tensor; ValueError, KeyError or TypeError for anything but a word and whole numbers."""
    dtype, shape, (begin, end) = entry["dtype"], entry["shape"], entry["data_offsets"]
    if not isinstance(shape, list) or len(shape) > MOST_DIMENSIONS:
        raise TypeError(f"a list of at most {MOST_DIMENSIONS} dimensions is needed")
    if not isinstance(dtype, str) or any(type(number) is not int for number in (*shape, begin, end)):
        raise TypeError("a word and whole numbers are needed")
    return dtype, tuple(shape), begin, end


def _check_layout(file_name: str, entries: dict, data_size: int, may_be_empty: bool) -> None:
    """Every byte belongs to exactly one tensor: no holes, no overlaps, nothing beyond the end."""
    position = 0
    for name, (dtype, shape, begin, end) in sorted(entries.items(), key=lambda item: item[1][2:]):
        if not SAFE_NAME.fullmatch(name) or ".." in name:
            raise StudioError(f"{file_name} has a tensor with an unusable name ({name[:60]!r}); it is damaged or made to do harm.")
        negative, empty = min((*shape, begin)) < 0, 0 in shape and not may_be_empty
        if dtype not in BYTES or negative or empty or begin != position or end - begin != math.prod(shape) * BYTES[dtype]:
            raise StudioError(f"{file_name} is damaged: tensor {name[:60]!r} does not describe its bytes. Get the file again.")
        position = end
    if position != data_size:
        raise StudioError(f"{file_name} is damaged: its tensors take {position:,} bytes, it has {data_size:,}. Get the file again.")
