"""Adapter files: checks on the header, loading with conversion of foreign keys, and the canonical writer.

Written files follow diffusers (`unet.<module>.lora_A.weight`) with alpha folded into lora_B, so that every program generates the
same image. Only functions that use weights import torch.
"""

import functools
import hashlib
import json
import math
import re
import struct
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from studio.adapters import info
from studio.adapters.header import SAFE_NAME, Header, read_header
from studio.adapters.info import Fingerprint
from studio.core import bounded_json
from studio.core.errors import Overflow, StudioError

if TYPE_CHECKING:
    import torch

    from studio.families.base import Family
    from studio.families.facts import BaseFolder

WEIGHT_DTYPES = ("F64", "F32", "F16", "BF16")
OUR_ENDINGS = (
    ".lora_A.weight",
    ".lora_B.weight",
    ".lora_magnitude_vector",
    *(f".lokr_{part}" for part in ("w1", "w1_a", "w1_b", "w2", "w2_a", "w2_b")),
)
TORCH_DTYPES = {"torch.float64": "F64", "torch.float32": "F32", "torch.float16": "F16", "torch.bfloat16": "BF16", "torch.bool": "BOOL"}
TORCH_DTYPES |= {f"torch.{sign}int{bits}": f"{'U' if sign else 'I'}{bits}" for sign in ("", "u") for bits in (8, 16, 32, 64)}
TORCH_DTYPES |= {"torch.float8_e4m3fn": "F8_E4M3", "torch.float8_e5m2": "F8_E5M2", "torch.complex64": "C64"}
TORCH_DTYPES |= {"torch.float8_e4m3fnuz": "F8_E4M3FNUZ", "torch.float8_e5m2fnuz": "F8_E5M2FNUZ"}
"""torch dtype -> safetensors dtype, for all dtypes that the safetensors reader supports (safetensors 0.8)."""

CLIP_LAYER = re.compile(r"(?:^|(?<=/))(text_encoder(?:_\d)?)\.(?=encoder\.layers\.)")
"""Position in CLIP layer names where `text_model` is missing. Other text encoders differ: T5 has encoder.block, language models model.layers."""


@dataclass(frozen=True)
class LowRank:
    """LoRA matrices of one layer: B @ A is added to its weight. A is (rank, in) or (rank, in, h, w), B is (out, rank) or (out, rank, 1, 1).

    With a magnitude (out,) it is a DoRA layer: the norms of the sum's rows.
    """

    A: "torch.Tensor"
    B: "torch.Tensor"
    magnitude: "torch.Tensor | None" = None


@dataclass(frozen=True)
class Kronecker:
    """LoKr factors of one layer: the Kronecker product of w1 and w2 is added to its weight."""

    w1: "torch.Tensor"
    w2: "torch.Tensor"


@dataclass(frozen=True, eq=False)
class Adapter:
    """A LoRA in memory: canonical `<part>.<module>` -> its matrices in float32, alpha folded in. Compared by identity."""

    title: str
    layers: dict[str, LowRank | Kronecker]
    fingerprint: Fingerprint

    @functools.cached_property
    def largest(self) -> dict[str, tuple[float, float]]:
        """layer -> largest absolute value, and largest one that the stack weight multiplies; infinity if any value is not finite."""
        found = {}
        for layer, part in self.layers.items():
            if isinstance(part, Kronecker):
                w1, w2 = _largest(part.w1), _largest(part.w2)
                found[layer] = (max(w1, w2), w1 * w2)
            elif part.magnitude is None:
                found[layer] = (max(_largest(part.A), _largest(part.B)), _largest(part.B))
            else:
                # For DoRA the stack weight multiplies the product of A and B, not the matrices.
                found[layer] = (max(_largest(part.A), _largest(part.B), _largest(part.magnitude)), 0.0)
        return found

    @functools.cached_property
    def text_encoder_sha256(self) -> str:
        """Hash of the text encoder layers, empty without any; encoded prompts depend on it and on the LoRA's weight."""
        of_text = {name: tensor for name, tensor in adapter_tensors(self).items() if name.startswith("text_encoder")}
        return hashlib.sha256(serialise(of_text, {})).hexdigest() if of_text else ""


def _largest(tensor: "torch.Tensor") -> float:
    """The largest absolute value; infinity if a value is not finite."""
    least, most = (end.item() for end in tensor.aminmax())
    return max(-least, most) if math.isfinite(most - least) else math.inf


def fingerprint(header: Header) -> Fingerprint:
    """Family, rank and prompt width from keys and shapes; StudioError for anything but a LoRA."""
    for name, (dtype, _) in header.tensors.items():
        if dtype not in WEIGHT_DTYPES and not name.endswith(".alpha"):
            raise StudioError(f"This LoRA is stored as {dtype}; the studio reads {', '.join(WEIGHT_DTYPES)}. Use the fp16 or fp32 version.")
    return info.fingerprint(header.shapes, header.metadata)


def check_base_compatibility(title: str, found: Fingerprint, family: "Family", base: "BaseFolder") -> None:
    """StudioError that names both models if a LoRA was made for another base than the chosen one."""
    chosen, width = family.base_title(base), family.width(base)
    if found.family != family.name:
        raise StudioError(f"{title}: this LoRA was made for {found.title}; the chosen base is {chosen}. Choose one that fits.")
    if None not in (found.width, width) and found.width != width:
        raise StudioError(
            f"{title}: this LoRA was made for {family.member_title(found.width)}; the chosen base is {chosen}. Choose a LoRA or a base that fits."
        )


def canonical_name(name: str) -> str:
    """A layer's name in adapter files, from its name in memory, in a file of an earlier version, or at the end of a name in a checkpoint.

    CLIP's layers are below `text_model`, as in transformers 4, diffusers before 0.40 and ComfyUI. transformers 5.6 dropped that level
    from CLIPTextModel, not from CLIPTextModelWithProjection; a newer diffusers accepts both.
    """
    return CLIP_LAYER.sub(r"\1.text_model.", name)


def load_adapter(path: Path, family: "Family") -> Adapter:
    """Load and check a LoRA file: family, finite values, complete layers; foreign keys are converted by diffusers."""
    import torch
    from safetensors.torch import load_file

    header = read_header(path)
    found = fingerprint(header)
    if found.family != family.name:
        raise StudioError(f"{path.name}: this LoRA was made for {found.title}; the chosen base is {family.title}. Choose a LoRA or a base that fits.")
    tensors = load_file(path)
    for name, tensor in tensors.items():
        if not torch.isfinite(tensor).all():
            raise StudioError(f"{path.name} contains values that are not finite (in {name}) and would only produce noise. Use another version of it.")
    if any(".lokr_" in name for name in tensors) and not family.reads_lokr:
        raise StudioError(f"{path.name} is a LoKr file, which diffusers cannot load for {family.title}; use a plain LoRA.")
    tensors = _fold_kohya_alphas(tensors)
    parts = (family.denoiser_name, *family.text_encoder_names)
    if not all(name.startswith(parts) and name.endswith(OUR_ENDINGS) for name in tensors):
        tensors = family.convert_keys(tensors)
    layers: dict[str, LowRank | Kronecker] = {}
    alphas = _StatedAlphas(header.metadata)
    for name, A in tensors.items():
        if name.endswith(".lora_A.weight"):
            layer = name.removesuffix(".lora_A.weight")
            magnitude = next((tensors[layer + ending].float().flatten() for ending in info.MAGNITUDES if layer + ending in tensors), None)
            B = tensors[f"{layer}.lora_B.weight"].float() * alphas.scale(layer, A.shape[0])
            layers[layer] = LowRank(A.float(), B, magnitude)
    layers |= _kronecker_layers(tensors)
    if lost := [name for name in tensors if re.split(r"\.lo(?:ra|kr)_", name)[0] not in layers]:
        raise StudioError(f"{path.name} has layers with unknown names (first: {lost[0]}); use a LoRA in diffusers' or kohya's format.")
    named = {canonical_name(layer): part for layer, part in layers.items()}
    if len(named) < len(layers):
        twice = next(layer for layer in layers if layer != canonical_name(layer) and canonical_name(layer) in layers)
        raise StudioError(f"{path.name} has the layer {twice} twice, with text_model in its name and without; use another version of it.")
    if not layers:
        raise StudioError(f"{path.name} matches no layer of {family.title}; it would change nothing. Choose another LoRA.")
    adapter = Adapter(path.name, named, found)
    for layer, (largest, _) in adapter.largest.items():
        if not math.isfinite(largest):
            raise Overflow(
                f"{path.name}: layer {layer} overflows float32 after scaling by alpha and would produce a black image. "
                "Use another version of this LoRA, or ask its author."
            )
    return adapter


def _kronecker_layers(tensors: "dict[str, torch.Tensor]") -> dict[str, Kronecker]:
    """LoKr layers with both factors multiplied out, in PEFT's order of operations. Alpha is folded in, in studio files and by diffusers."""

    def factor(layer: str, which: str) -> "torch.Tensor":
        if f"{layer}.lokr_{which}" in tensors:
            return tensors[f"{layer}.lokr_{which}"].float()
        return tensors[f"{layer}.lokr_{which}_a"].float() @ tensors[f"{layer}.lokr_{which}_b"].float()

    return {
        layer: Kronecker(factor(layer, "w1"), factor(layer, "w2")) for layer in {name.rpartition(".lokr_")[0] for name in tensors if ".lokr_" in name}
    }


def adapter_tensors(adapter: Adapter) -> "dict[str, torch.Tensor]":
    """A LoRA's tensors by their names in a studio adapter file."""
    found: dict[str, torch.Tensor] = {}
    for layer, part in adapter.layers.items():
        if isinstance(part, Kronecker):
            found |= {f"{layer}.lokr_w1": part.w1, f"{layer}.lokr_w2": part.w2}
            continue
        found |= {f"{layer}.lora_A.weight": part.A, f"{layer}.lora_B.weight": part.B}
        if part.magnitude is not None:
            found[f"{layer}.lora_magnitude_vector"] = part.magnitude
    return found


def serialise(tensors: "dict[str, torch.Tensor]", metadata: dict[str, str]) -> bytes:
    """Canonical safetensors bytes, which depend on content alone: sorted keys, aligned header. The stock writer orders metadata randomly."""
    header: dict[str, dict[str, Any]] = {"__metadata__": dict(sorted(metadata.items()))}
    offset, chunks = 0, []
    for name in sorted(tensors):
        if (dtype := str(tensors[name].dtype)) not in TORCH_DTYPES:
            raise StudioError(
                f"The tensor {name!r} has the dtype {dtype}; a .safetensors file supports {', '.join(TORCH_DTYPES)}. Convert it to one of them first."
            )
        tensor = tensors[name].detach().cpu().contiguous()
        data = _raw_bytes(tensor)
        header[name] = {"dtype": TORCH_DTYPES[dtype], "shape": list(tensor.shape), "data_offsets": [offset, offset + len(data)]}
        offset += len(data)
        chunks.append(data)
    text = json.dumps(header, separators=(",", ":"), ensure_ascii=True).encode("ascii")
    text += b" " * (-len(text) % 8)
    return b"".join((struct.pack("<Q", len(text)), text, *chunks))


def adapter_metadata(targets: dict[str, list[str]], rank: int, studio: dict, modelspec: dict[str, str], method: str = "lora") -> dict[str, str]:
    """Metadata for the header: for each part diffusers' LoRA config (alpha equals rank), the studio's facts, and the ModelSpec 1.0.0 keys."""
    lora: dict[str, Any] = {}
    for part, modules in targets.items():
        # diffusers 0.34 to 0.39 raise a KeyError without both patterns. No optional keys: PEFT rejects a config with a key that a newer PEFT added.
        config = {"r": rank, "target_modules": sorted(modules), "rank_pattern": {}, "alpha_pattern": {}}
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
    from studio.core.workspace import write_atomically

    write_atomically(path, serialise(tensors, metadata))


def _raw_bytes(tensor: "torch.Tensor") -> bytes:
    import torch

    return tensor.reshape(-1).view(torch.uint8).numpy().tobytes()


def _fold_kohya_alphas(tensors: "dict[str, torch.Tensor]") -> "dict[str, torch.Tensor]":
    """Fold kohya's `<layer>.alpha` into the up matrix (alpha / rank), so that converters need not handle it."""
    folded = {name: tensor for name, tensor in tensors.items() if not name.endswith(".alpha")}
    for down, up in info.PAIRS:
        for name in [name for name in folded if name.endswith(down)]:
            layer = name.removesuffix(down)
            if f"{layer}.alpha" in tensors:
                folded[layer + up] = folded[layer + up].float() * (tensors[f"{layer}.alpha"].item() / folded[name].shape[0])
    return folded


class _StatedAlphas:
    """alpha / rank of each layer as diffusers applies it from lora_adapter_metadata; 1 without an alpha in the header (ecosystem convention)."""

    def __init__(self, metadata: dict[str, str]):
        self.parts: dict[str, dict] = {}
        for key, value in bounded_json.loads(metadata.get("lora_adapter_metadata", "{}")).items():
            part, _, name = key.partition(".")
            self.parts.setdefault(part, {})[name] = value
        for config in self.parts.values():
            patterns = config.get("alpha_pattern") or {}
            if not isinstance(patterns, dict) or not all(SAFE_NAME.fullmatch(pattern.removeprefix("^")) for pattern in patterns):
                raise StudioError("The header of this LoRA has per-layer alphas that cannot be read; use a version in kohya's format.")
            config["places"] = {pattern: place for place, pattern in enumerate(patterns)}

    def scale(self, layer: str, rank: int) -> float:
        part, _, module = layer.partition(".")
        config = self.parts.get(part, {})
        if "lora_alpha" not in config:
            return 1.0
        # PEFT's rule: a pattern is a module's name or its end, with ^ the whole name; the first one that fits counts. PEFT reads patterns
        # as regular expressions; an untrusted one may never terminate.
        words = module.split(".")
        fitting = [name for name in (f"^{module}", *(".".join(words[start:]) for start in range(len(words)))) if name in config["places"]]
        alpha = config["alpha_pattern"][min(fitting, key=config["places"].get)] if fitting else config["lora_alpha"]
        if type(alpha) not in (int, float) or not math.isfinite(alpha):
            raise StudioError(f"The header of this LoRA has the alpha {str(alpha)[:40]!r}, which is not a number; download the file again.")
        return alpha / (math.sqrt(rank) if config.get("use_rslora") else rank)
