"""Headers of .safetensors files, parsed and validated without reading weights. No torch here.

Only the header is read, so an untrusted file costs no more memory than its header.
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
"""Of a tensor; 3D convolutions, the largest in use, have five."""
PICKLE_MESSAGE = "is a pickle, which can run code when opened. Only .safetensors files are supported; use that version."


@dataclass(frozen=True)
class Limits:
    """Limits on the header of one kind of file; `kind` names it in errors."""

    kind: str
    tensors: int
    header_bytes: int
    empty: bool = False
    """Whether empty tensors are allowed; trainers use them as markers in full models."""


LORA = Limits("a LoRA", 20_000, 8 * 1024**2)
# The largest single file of the supported families has about 3,000 tensors, quantised six times that.
CHECKPOINT = Limits("a base model", 60_000, 16 * 1024**2, empty=True)


@dataclass(frozen=True)
class Header:
    """Tensors (name -> dtype, shape) and metadata of a safetensors file."""

    tensors: dict[str, tuple[str, tuple[int, ...]]]
    metadata: dict[str, str]

    @property
    def shapes(self) -> dict[str, tuple[int, ...]]:
        return {name: shape for name, (_, shape) in self.tensors.items()}


def read_header(path: Path, limits: Limits = LORA) -> Header:
    """Read and validate the header of a safetensors file; StudioError names the problem."""
    with open(path, "rb") as file:
        start = file.read(8)
        size = path.stat().st_size
        length = struct.unpack("<Q", start)[0] if len(start) == 8 else 0
        # The length is checked first: a valid one may equal the magic bytes of a zip (19,280) or a pickle (640, 1,152).
        if not 2 <= length <= min(limits.header_bytes, size - 8):
            raise StudioError(f"{path.name} {_unreadable_reason(start)}")
        raw = file.read(length)
    try:
        items = bounded_json.loads(raw.decode("utf-8"), _without_duplicates)
        metadata = items.pop("__metadata__", {})
        entries = {name: _parse_entry(entry) for name, entry in items.items()}
    except (ValueError, KeyError, TypeError, AttributeError):
        raise StudioError(f"{path.name} is not a valid .safetensors file: its header is damaged. Download it again.") from None
    if not isinstance(metadata, dict) or not all(isinstance(value, str) for value in metadata.values()):
        raise StudioError(f"{path.name} has a damaged header: its metadata is not text. Download the file again.")
    if len(entries) > limits.tensors:
        raise StudioError(f"{path.name} has {len(entries):,} tensors; {limits.kind} has at most {limits.tensors:,}.")
    _check_layout(path.name, entries, size - 8 - length, limits.empty)
    return Header({name: (dtype, shape) for name, (dtype, shape, _, _) in entries.items()}, metadata)


def _unreadable_reason(start: bytes) -> str:
    """Why a file is not a safetensors file, by its first bytes, and what to do."""
    if start[:1] == b"\x80" and start[1:2] in (b"\x02", b"\x03", b"\x04", b"\x05"):
        return PICKLE_MESSAGE
    if start[:4] == b"PK\x03\x04":
        return "is a zip: an archive to unpack first, or a pickle (.pt, .ckpt), which can run code when opened. Only .safetensors is supported."
    if start == b"version ":
        return "is a git-lfs pointer, not the file itself; download it with `git lfs pull` or from its page."
    return "is not a complete .safetensors file: it is damaged, truncated or of another type. Download it again."


def _without_duplicates(pairs: list[tuple]) -> dict:
    if len({key for key, _ in pairs}) < len(pairs):
        raise ValueError("duplicate key")
    return dict(pairs)


def _parse_entry(entry: dict) -> tuple[str, tuple[int, ...], int, int]:
    """dtype, shape, begin and end of one tensor; ValueError, KeyError or TypeError if the entry is malformed."""
    dtype, shape, (begin, end) = entry["dtype"], entry["shape"], entry["data_offsets"]
    if not isinstance(shape, list) or len(shape) > MOST_DIMENSIONS:
        raise TypeError(f"shape must be a list of at most {MOST_DIMENSIONS} dimensions")
    if not isinstance(dtype, str) or any(type(number) is not int for number in (*shape, begin, end)):
        raise TypeError("dtype must be a string; shape and offsets must be integers")
    return dtype, tuple(shape), begin, end


def _check_layout(file_name: str, entries: dict, data_size: int, may_be_empty: bool) -> None:
    """Every byte belongs to exactly one tensor: no holes, no overlaps, nothing beyond the end."""
    position = 0
    for name, (dtype, shape, begin, end) in sorted(entries.items(), key=lambda item: item[1][2:]):
        if not SAFE_NAME.fullmatch(name) or ".." in name:
            raise StudioError(f"{file_name} has a tensor with an unusable name ({name[:60]!r}); it is damaged or malicious.")
        negative, empty = min((*shape, begin)) < 0, 0 in shape and not may_be_empty
        if dtype not in BYTES or negative or empty or begin != position or end - begin != math.prod(shape) * BYTES[dtype]:
            raise StudioError(f"{file_name} is damaged: tensor {name[:60]!r} does not match its bytes. Download the file again.")
        position = end
    if position != data_size:
        raise StudioError(f"{file_name} is damaged: its tensors take {position:,} bytes, but it has {data_size:,}. Download the file again.")
