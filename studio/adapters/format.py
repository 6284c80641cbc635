"""Adapter files: what is told from their header, the canonical writer, and the way in for foreign keys.

Written files follow diffusers (`unet.<module>.lora_A.weight`) with alpha folded into lora_B, so that every reader draws the
same picture. Only the functions that touch weights import torch.
"""

import functools
import hashlib
import json
import math
import re
import struct
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

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
"""torch's name of a dtype -> that of safetensors, for all that its reader takes back from bytes (safetensors 0.8)."""

CLIP_LAYER = re.compile(r"(?:^|(?<=/))(text_encoder(?:_\d)?)\.(?=encoder\.layers\.)")
"""Where a name of CLIP's lacks the level `text_model`. No other text encoder begins so: T5 has encoder.block, the language models model.layers."""


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


@dataclass(frozen=True, eq=False)
class Adapter:
    """A LoRA in memory: `<part>.<module>` as `spell` has it -> its change, float32, alpha folded in. Two are equal only when they are one object."""

    title: str
    layers: dict[str, LowRank | Kronecker]
    fingerprint: Fingerprint

    @functools.cached_property
    def largest(self) -> dict[str, tuple[float, float]]:
        """layer -> its largest number, and the largest of those that a weight in a stack multiplies; infinity for any that is not finite."""
        found = {}
        for layer, part in self.layers.items():
            if isinstance(part, Kronecker):
                w1, w2 = _largest(part.w1), _largest(part.w2)
                found[layer] = (max(w1, w2), w1 * w2)
            elif part.magnitude is None:
                found[layer] = (max(_largest(part.A), _largest(part.B)), _largest(part.B))
            else:
                # A DoRA's weight multiplies what its halves give, not the halves.
                found[layer] = (max(_largest(part.A), _largest(part.B), _largest(part.magnitude)), 0.0)
        return found

    @functools.cached_property
    def text_encoder_sha256(self) -> str:
        """Hash of the layers that change a text encoder, empty without any: what an encoded prompt depends on besides the LoRA's weight."""
        of_text = {name: tensor for name, tensor in adapter_tensors(self).items() if name.startswith("text_encoder")}
        return hashlib.sha256(serialise(of_text, {})).hexdigest() if of_text else ""


def _largest(tensor: "torch.Tensor") -> float:
    """The largest number without its sign; infinity where one is not finite."""
    least, most = (end.item() for end in tensor.aminmax())
    return max(-least, most) if math.isfinite(most - least) else math.inf


def fingerprint(header: Header) -> Fingerprint:
    """The family, rank and prompt width that keys and shapes tell; StudioError for anything but a plain LoRA."""
    for name, (dtype, _) in header.tensors.items():
        if dtype not in WEIGHT_DTYPES and not name.endswith(".alpha"):
            raise StudioError(f"This LoRA is stored as {dtype}; the studio reads {', '.join(WEIGHT_DTYPES)}. Look for the fp16 or fp32 version.")
    return info.fingerprint(header.shapes, header.metadata)


def refuse_other_base(title: str, found: Fingerprint, family: "Family", base: "BaseFolder") -> None:
    """Raise StudioError, naming both models, when a LoRA was made for another base than the chosen one."""
    chosen, width = family.base_title(base), family.width(base)
    if found.family != family.name:
        raise StudioError(f"{title}: this LoRA was made for {found.title}; the chosen base is {chosen}. Choose one that fits.")
    if None not in (found.width, width) and found.width != width:
        raise StudioError(
            f"{title}: this LoRA was made for {family.member_title(found.width)}; the chosen base is {chosen}. Choose a LoRA or a base that fits."
        )


def spell(name: str) -> str:
    """A layer's name in a file, from its name in memory, in a file of an earlier version, or at the end of a name in a resume state.

    CLIP's layers stand below `text_model`, as transformers 4, diffusers before 0.40 and ComfyUI name them. transformers 5.6 dropped that level
    from CLIPTextModel, not from CLIPTextModelWithProjection; a newer diffusers finds the layers either way.
    """
    return CLIP_LAYER.sub(r"\1.text_model.", name)


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
    layers, alphas = {}, _StatedAlphas(header.metadata)
    for name, A in tensors.items():
        if name.endswith(".lora_A.weight"):
            layer = name.removesuffix(".lora_A.weight")
            magnitude = next((tensors[layer + ending].float().flatten() for ending in info.MAGNITUDES if layer + ending in tensors), None)
            B = tensors[f"{layer}.lora_B.weight"].float() * alphas.scale(layer, A.shape[0])
            layers[layer] = LowRank(A.float(), B, magnitude)
    layers |= _kronecker_layers(tensors)
    if lost := [name for name in tensors if re.split(r"\.lo(?:ra|kr)_", name)[0] not in layers]:
        raise StudioError(f"{path.name} has layers that nobody here can place (first: {lost[0]}); look for the LoRA in diffusers' or kohya's format.")
    named = {spell(layer): part for layer, part in layers.items()}
    if len(named) < len(layers):
        twice = next(layer for layer in layers if layer != spell(layer) and spell(layer) in layers)
        raise StudioError(f"{path.name} has the layer {twice} twice, with the level text_model in its name and without; get another version of it.")
    if not layers:
        raise StudioError(f"{path.name} matches no layer of {family.title}; it would change nothing. Choose another LoRA.")
    adapter = Adapter(path.name, named, found)
    for layer, (largest, _) in adapter.largest.items():
        if not math.isfinite(largest):
            raise Overflow(
                f"{path.name}: the numbers of layer {layer} overflow float32 once they are scaled by its alpha; drawn, they would be a black image. "
                "Get another version of this LoRA, or ask its maker."
            )
    return adapter


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
        if (dtype := str(tensors[name].dtype)) not in TORCH_DTYPES:
            raise StudioError(
                f"The tensor {name!r} has the dtype {dtype}; a .safetensors file can hold {', '.join(TORCH_DTYPES)}. Convert it to one of them first."
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
    """What travels in the header: for each part diffusers' own LoRA config (alpha equals rank), the studio's facts, and the ModelSpec 1.0.0 keys."""
    lora = {}
    for part, modules in targets.items():
        # diffusers 0.34 to 0.39 look both patterns up and raise a KeyError without them. Nothing more than a reader needs: PEFT refuses a config with
        # a key that a newer PEFT added.
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
    """kohya keeps `<layer>.alpha` beside the halves and applies alpha / rank; folded here, the converters need not carry it."""
    folded = {name: tensor for name, tensor in tensors.items() if not name.endswith(".alpha")}
    for down, up in info.PAIRS:
        for name in [name for name in folded if name.endswith(down)]:
            layer = name.removesuffix(down)
            if f"{layer}.alpha" in tensors:
                folded[layer + up] = folded[layer + up].float() * (tensors[f"{layer}.alpha"].item() / folded[name].shape[0])
    return folded


class _StatedAlphas:
    """alpha / rank of each layer as diffusers would apply it from lora_adapter_metadata; 1 when the header states none (ecosystem convention)."""

    def __init__(self, metadata: dict[str, str]):
        self.parts: dict[str, dict] = {}
        for key, value in bounded_json.loads(metadata.get("lora_adapter_metadata", "{}")).items():
            part, _, name = key.partition(".")
            self.parts.setdefault(part, {})[name] = value
        for config in self.parts.values():
            patterns = config.get("alpha_pattern") or {}
            if not isinstance(patterns, dict) or not all(SAFE_NAME.fullmatch(pattern.removeprefix("^")) for pattern in patterns):
                raise StudioError("This LoRA states the alpha of single layers in a way that cannot be read; look for a version in kohya's format.")
            config["places"] = {pattern: place for place, pattern in enumerate(patterns)}

    def scale(self, layer: str, rank: int) -> float:
        part, _, module = layer.partition(".")
        config = self.parts.get(part, {})
        if "lora_alpha" not in config:
            return 1.0
        # PEFT's rule: a pattern is a module's name or its end, with ^ the whole name; the first one that fits counts. PEFT reads patterns
        # as expressions; a stranger's may run for ever.
        words = module.split(".")
        fitting = [name for name in (f"^{module}", *(".".join(words[start:]) for start in range(len(words)))) if name in config["places"]]
        alpha = config["alpha_pattern"][min(fitting, key=config["places"].get)] if fitting else config["lora_alpha"]
        if type(alpha) not in (int, float) or not math.isfinite(alpha):
            raise StudioError(f"This LoRA's header states the alpha {str(alpha)[:40]!r}, which is no number; get the file again or ask its maker.")
        return alpha / (math.sqrt(rank) if config.get("use_rslora") else rank)
