"""Adapter files: a header reader that refuses what is not a safe LoRA, the canonical writer, and the way in for foreign keys.

Written files follow diffusers (`unet.<module>.lora_A.weight`) with alpha folded into lora_B, so that every reader draws the
same picture. Reading a header needs no torch; only the functions that touch weights import it.
"""

import json
import math
import re
import struct
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from studio import fingerprints
from studio.errors import StudioError
from studio.fingerprints import Fingerprint

if TYPE_CHECKING:
    import torch

    from studio.families.base import BaseFolder, Family

LARGEST_HEADER = 8 * 1024 * 1024
MOST_TENSORS = 20_000
SAFE_NAME = re.compile(r"[A-Za-z0-9_.\-]{1,300}")
BYTES = {"F64": 8, "F32": 4, "F16": 2, "BF16": 2, "I64": 8, "I32": 4, "I16": 2, "I8": 1, "U8": 1, "BOOL": 1, "F8_E4M3": 1, "F8_E5M2": 1}
WEIGHT_DTYPES = ("F64", "F32", "F16", "BF16")
OUR_ENDINGS = (
    ".lora_A.weight",
    ".lora_B.weight",
    ".lora_magnitude_vector",
    *(f".lokr_{part}" for part in ("w1", "w1_a", "w1_b", "w2", "w2_a", "w2_b")),
)
TORCH_DTYPES = {"torch.float64": "F64", "torch.float32": "F32", "torch.float16": "F16", "torch.bfloat16": "BF16", "torch.bool": "BOOL"}


@dataclass(frozen=True)
class Header:
    """What a safetensors file says about itself."""

    tensors: dict[str, tuple[str, tuple[int, ...]]]
    metadata: dict[str, str]


@dataclass(frozen=True)
class LowRank:
    """One layer's change: B @ A is added to its weight. A is (rank, in) or (rank, in, h, w), B is (out, rank) or (out, rank, 1, 1).

    With a magnitude (out,) it is a DoRA layer: the sum's rows then have these lengths.
    """

    A: "torch.Tensor"
    B: "torch.Tensor"
    magnitude: "torch.Tensor | None" = None


@dataclass(frozen=True)
class Kronecker:
    """One LoKr layer's change: the Kronecker product of w1 and w2 is added to its weight."""

    w1: "torch.Tensor"
    w2: "torch.Tensor"


@dataclass(frozen=True)
class Adapter:
    """A LoRA in memory: `<part>.<module>` -> its change, float32, alpha folded in."""

    title: str
    layers: dict[str, LowRank | Kronecker]
    fingerprint: Fingerprint


def read_header(path: Path) -> Header:
    """The header of a safetensors file after every check that needs no weights; StudioError says what is wrong with the file."""
    with open(path, "rb") as file:
        start = file.read(8)
        size = path.stat().st_size
        length = struct.unpack("<Q", start)[0] if len(start) == 8 else 0
        # The length comes first: a good file's may begin with the very bytes that mark a zip (19,280) or a pickle (640, 1,152).
        if not 2 <= length <= min(LARGEST_HEADER, size - 8):
            raise StudioError(f"{path.name} {_kind(start)}")
        raw = file.read(length)
    try:
        items = json.loads(raw.decode("utf-8"), object_pairs_hook=_without_duplicates)
        metadata = items.pop("__metadata__", {})
        entries = {name: _described(entry) for name, entry in items.items()}
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError):
        raise StudioError(f"{path.name} is not a .safetensors file that can be read: its header is damaged. Get it again.") from None
    if not isinstance(metadata, dict) or not all(isinstance(value, str) for value in metadata.values()):
        raise StudioError(f"{path.name} has a damaged header: its metadata is not text. Get the file again.")
    if len(entries) > MOST_TENSORS:
        raise StudioError(f"{path.name} holds {len(entries):,} tensors; a LoRA has at most {MOST_TENSORS:,}.")
    _check_layout(path.name, entries, size - 8 - length)
    return Header({name: (dtype, shape) for name, (dtype, shape, _, _) in entries.items()}, metadata)


def fingerprint(header: Header) -> Fingerprint:
    """The family, rank and prompt width that keys and shapes tell; StudioError for anything but a plain LoRA."""
    for name, (dtype, _) in header.tensors.items():
        if dtype not in WEIGHT_DTYPES and not name.endswith(".alpha"):
            raise StudioError(f"This LoRA is stored as {dtype}; the studio reads {', '.join(WEIGHT_DTYPES)}. Look for the fp16 or fp32 version.")
    return fingerprints.fingerprint({name: shape for name, (_, shape) in header.tensors.items()}, header.metadata)


def refuse_other_base(title: str, found: Fingerprint, family: "Family", base: "BaseFolder") -> None:
    """Raise StudioError, naming both models, when a LoRA was made for another base than the chosen one."""
    chosen, width = family.base_title(base), family.width(base)
    if found.family != family.name:
        raise StudioError(f"{title}: this LoRA was made for {found.title}; the chosen base is {chosen}. Choose one that fits.")
    if None not in (found.width, width) and found.width != width:
        raise StudioError(
            f"{title}: this LoRA was made for {family.member_title(found.width)}; the chosen base is {chosen}. Choose a LoRA or a base that fits."
        )


def load_adapter(path: Path, family: "Family") -> Adapter:
    """All layers of a LoRA file, checked: right family, finite numbers, both halves; foreign spellings translated by diffusers' own converters."""
    import torch
    from safetensors.torch import load_file

    header = read_header(path)
    found = fingerprint(header)
    if found.family != family.name:
        raise StudioError(f"{path.name}: this LoRA was made for {found.title}; the chosen base is {family.title}. Choose a LoRA or a base that fits.")
    tensors = load_file(path)
    for name, tensor in tensors.items():
        if not torch.isfinite(tensor).all():
            raise StudioError(f"{path.name} holds numbers that are not finite (in {name}); it would only draw noise. Get another version of it.")
    if any(".lokr_" in name for name in tensors) and not family.reads_lokr:
        raise StudioError(f"{path.name} is a LoKr file, which diffusers cannot read for {family.title}; look for a plain LoRA.")
    tensors = _fold_kohya_alphas(tensors)
    parts = (family.denoiser_name, *family.text_encoder_names)
    if not all(name.startswith(parts) and name.endswith(OUR_ENDINGS) for name in tensors):
        tensors = family.foreign_layers(tensors)
    layers = {}
    for name, A in tensors.items():
        if name.endswith(".lora_A.weight"):
            layer = name.removesuffix(".lora_A.weight")
            magnitude = next((tensors[layer + ending].float().flatten() for ending in fingerprints.MAGNITUDES if layer + ending in tensors), None)
            B = tensors[f"{layer}.lora_B.weight"].float() * _stated_scale(header.metadata, layer, A.shape[0])
            layers[layer] = LowRank(A.float(), B, magnitude)
    layers |= _kronecker_layers(tensors)
    if lost := [name for name in tensors if re.split(r"\.lo(?:ra|kr)_", name)[0] not in layers]:
        raise StudioError(f"{path.name} has layers that nobody here can place (first: {lost[0]}); look for the LoRA in diffusers' or kohya's format.")
    if not layers:
        raise StudioError(f"{path.name} matches no layer of {family.title}; it would change nothing. Choose another LoRA.")
    return Adapter(path.name, layers, found)


def _kronecker_layers(tensors: "dict[str, torch.Tensor]") -> dict[str, Kronecker]:
    """Both factors whole, in the order of operations of PEFT. A studio's file, and what diffusers converts, has its alpha folded in."""

    def whole(layer: str, which: str) -> "torch.Tensor":
        if f"{layer}.lokr_{which}" in tensors:
            return tensors[f"{layer}.lokr_{which}"].float()
        return tensors[f"{layer}.lokr_{which}_a"].float() @ tensors[f"{layer}.lokr_{which}_b"].float()

    return {
        layer: Kronecker(whole(layer, "w1"), whole(layer, "w2")) for layer in {name.rpartition(".lokr_")[0] for name in tensors if ".lokr_" in name}
    }


def adapter_tensors(adapter: Adapter) -> "dict[str, torch.Tensor]":
    """A LoRA's tensors by their names in a studio's file."""
    found = {}
    for layer, part in adapter.layers.items():
        if isinstance(part, Kronecker):
            found |= {f"{layer}.lokr_w1": part.w1, f"{layer}.lokr_w2": part.w2}
            continue
        found |= {f"{layer}.lora_A.weight": part.A, f"{layer}.lora_B.weight": part.B}
        if part.magnitude is not None:
            found[f"{layer}.lora_magnitude_vector"] = part.magnitude
    return found


def serialise(tensors: "dict[str, torch.Tensor]", metadata: dict[str, str]) -> bytes:
    """A safetensors file whose bytes depend on its content alone: sorted keys, aligned header. The stock writer orders metadata at random."""
    header, offset, chunks = {"__metadata__": dict(sorted(metadata.items()))}, 0, []
    for name in sorted(tensors):
        tensor = tensors[name].detach().cpu().contiguous()
        data = _raw_bytes(tensor)
        header[name] = {"dtype": TORCH_DTYPES[str(tensor.dtype)], "shape": list(tensor.shape), "data_offsets": [offset, offset + len(data)]}
        offset += len(data)
        chunks.append(data)
    text = json.dumps(header, separators=(",", ":"), ensure_ascii=True).encode("ascii")
    text += b" " * (-len(text) % 8)
    return b"".join((struct.pack("<Q", len(text)), text, *chunks))


def adapter_metadata(targets: dict[str, list[str]], rank: int, studio: dict, modelspec: dict[str, str], method: str = "lora") -> dict[str, str]:
    """What travels in the header: for each part diffusers' own LoRA config (alpha equals rank), the studio's facts, and the ModelSpec 1.0.0 keys."""
    lora = {}
    for part, modules in targets.items():
        config = {"r": rank, "target_modules": sorted(modules)}
        if method == "lokr":
            config |= {"alpha": rank, "peft_type": "LOKR"}
        else:
            config |= {"lora_alpha": rank, "lora_dropout": 0.0, "bias": "none", "peft_type": "LORA"} | (
                {"use_dora": True} if method == "dora" else {}
            )
        lora |= {f"{part}.{key}": value for key, value in config.items()}
    return {
        "format": "pt",
        "lora_adapter_metadata": json.dumps(lora, sort_keys=True, separators=(",", ":")),
        "studio": json.dumps(studio, sort_keys=True, separators=(",", ":"), ensure_ascii=True),
        **{f"modelspec.{key}": value for key, value in modelspec.items()},
    }


def write_adapter(path: Path, tensors: "dict[str, torch.Tensor]", metadata: dict[str, str]) -> None:
    """Write a LoRA file; the same tensors and metadata always give the same bytes."""
    from studio.workspace import write_atomically

    write_atomically(path, serialise(tensors, metadata))


def _raw_bytes(tensor: "torch.Tensor") -> bytes:
    import torch

    return tensor.reshape(-1).view(torch.uint8).numpy().tobytes()


def _kind(start: bytes) -> str:
    """What a file is instead of a safetensors file, told from its first bytes, and what to do about it."""
    if start[:1] == b"\x80" and start[1:2] in (b"\x02", b"\x03", b"\x04", b"\x05"):
        return "is a pickle, which can run code when opened; only .safetensors files are used. Look for that version."
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
    dtype, shape, (begin, end) = entry["dtype"], tuple(entry["shape"]), entry["data_offsets"]
    if not isinstance(dtype, str) or any(type(number) is not int for number in (*shape, begin, end)):
        raise TypeError("a word and whole numbers are needed")
    return dtype, shape, begin, end


def _check_layout(file_name: str, entries: dict, data_size: int) -> None:
    """Every byte belongs to exactly one tensor: no holes, no overlaps, nothing empty, nothing beyond the end."""
    position = 0
    for name, (dtype, shape, begin, end) in sorted(entries.items(), key=lambda item: item[1][2:]):
        if not SAFE_NAME.fullmatch(name) or ".." in name:
            raise StudioError(f"{file_name} has a tensor with an unusable name ({name[:60]!r}); it is damaged or made to do harm.")
        if dtype not in BYTES or min((*shape, begin)) < 0 or (0 in shape) or begin != position or end - begin != math.prod(shape) * BYTES[dtype]:
            raise StudioError(f"{file_name} is damaged: tensor {name[:60]!r} does not describe its bytes. Get the file again.")
        position = end
    if position != data_size:
        raise StudioError(f"{file_name} is damaged: its tensors take {position:,} bytes, it has {data_size:,}. Get the file again.")


def _fold_kohya_alphas(tensors: "dict[str, torch.Tensor]") -> "dict[str, torch.Tensor]":
    """kohya keeps `<layer>.alpha` beside the halves and applies alpha / rank; folded here, the converters need not carry it."""
    folded = {name: tensor for name, tensor in tensors.items() if not name.endswith(".alpha")}
    for down, up in fingerprints.PAIRS:
        for name in [name for name in folded if name.endswith(down)]:
            layer = name.removesuffix(down)
            if f"{layer}.alpha" in tensors:
                folded[layer + up] = folded[layer + up].float() * (tensors[f"{layer}.alpha"].item() / folded[name].shape[0])
    return folded


def _stated_scale(metadata: dict[str, str], layer: str, rank: int) -> float:
    """alpha / rank of one layer as diffusers would apply it from lora_adapter_metadata; 1 when the header states none (ecosystem convention)."""
    if "lora_adapter_metadata" not in metadata:
        return 1.0
    part, _, module = layer.partition(".")
    stated = json.loads(metadata["lora_adapter_metadata"])
    config = {key.removeprefix(f"{part}."): value for key, value in stated.items() if key.startswith(f"{part}.")}
    if "lora_alpha" not in config:
        return 1.0
    patterns = config.get("alpha_pattern") or {}
    if not isinstance(patterns, dict) or not all(SAFE_NAME.fullmatch(pattern.removeprefix("^")) for pattern in patterns):
        raise StudioError("This LoRA states the alpha of single layers in a way that cannot be read; look for a version in kohya's format.")
    alpha = next((value for pattern, value in patterns.items() if _names(pattern, module)), config["lora_alpha"])
    if type(alpha) not in (int, float) or not math.isfinite(alpha):
        raise StudioError(f"This LoRA's header states the alpha {str(alpha)[:40]!r}, which is no number; get the file again or ask its maker.")
    return alpha / (math.sqrt(rank) if config.get("use_rslora") else rank)


def _names(pattern: str, module: str) -> bool:
    """PEFT's rule: a pattern is a module's name or its end, with ^ the whole name. PEFT reads it as an expression; a stranger's may run for ever."""
    return module == pattern.removeprefix("^") or module.endswith(f".{pattern}")
