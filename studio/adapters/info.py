"""Fingerprint of an adapter file from its keys and shapes alone: layers, rank, alpha and base. No torch, and no file is opened."""

import math
import re
from collections import Counter
from dataclasses import dataclass

from studio.adapters.recognition import recognise
from studio.core import bounded_json
from studio.core.errors import StudioError

Shapes = dict[str, tuple[int, ...]]

PAIRS = (
    (".lora_A.weight", ".lora_B.weight"),
    (".lora_A.default.weight", ".lora_B.default.weight"),
    (".lora_down.weight", ".lora_up.weight"),
    (".lora.down.weight", ".lora.up.weight"),
    ("_lora.down.weight", "_lora.up.weight"),
    (".lora_linear_layer.down.weight", ".lora_linear_layer.up.weight"),
)
"""Endings of the two matrices of a layer: PEFT, PEFT with its adapter name left in, kohya, and three older formats of diffusers."""

MAGNITUDES = (".lora_magnitude_vector", ".lora_magnitude_vector.weight", ".lora_magnitude_vector.default.weight")
"""Endings of DoRA's third tensor of a layer (Liu et al. 2024), in PEFT's naming."""

KRONECKER = re.compile(r"(.+)\.lokr_(w1|w1_a|w1_b|w2|w2_a|w2_b)")
"""LoKr (Yeh et al. 2023): a layer's update is the Kronecker product of w1 and w2, each a matrix or a product of two."""

OTHER_METHODS = {
    "dora_scale": "DoRA in another program's layout",
    "hada_w1": "LoHa",
    "lokr_t2": "LoKr with a Tucker core",
    "oft_": "OFT",
    ".diff": "a full difference of weights",
}


@dataclass(frozen=True)
class Fingerprint:
    """Facts of an adapter file: family and its title, rank, alpha as a reader must apply it, and the width that distinguishes the bases of a
    family (see Family.width), None if unknown."""

    family: str
    title: str
    rank: int
    alpha: float
    width: int | None
    layers: int


def fingerprint(shapes: Shapes, metadata: dict[str, str]) -> Fingerprint:
    """The fingerprint; StudioError if this is not a LoRA, is incomplete, or is of an unknown family."""
    pairs = layer_pairs(shapes)
    ranks = Counter(down[0] for down, _ in pairs.values())
    rank = ranks.most_common(1)[0][0]
    family, title, width = recognise(pairs, metadata.get("modelspec.architecture", ""))
    return Fingerprint(family, title, rank, _alpha(metadata, rank), width, len(pairs))


def layer_pairs(shapes: Shapes) -> dict[str, tuple[tuple[int, ...], tuple[int, ...]]]:
    """layer -> shapes of its down (A) and up (B) matrices. Tensors that are neither these nor an alpha are an error.

    A LoKr layer is given as the equivalent pair of LoRA matrices.
    """
    pairs, used = _kronecker_pairs(shapes)
    for name, shape in shapes.items():
        for down, up in PAIRS:
            if name.endswith(down):
                layer = name.removesuffix(down)
                partner = layer + up
                if partner not in shapes:
                    raise StudioError(f"This LoRA is damaged: {name!r} has no counterpart {partner!r}. Download the file again.")
                pairs[layer] = _checked(layer, shape, shapes[partner])
                used |= {name, partner, f"{layer}.alpha"}
                for magnitude in MAGNITUDES:
                    if layer + magnitude in shapes:
                        _check_magnitude(layer, pairs[layer], shapes[layer + magnitude])
                        used.add(layer + magnitude)
                break
    rest = [name for name in shapes if name not in used]
    for mark, method in OTHER_METHODS.items():
        if any(name.endswith(mark) if mark[0] == "." else f".{mark}" in name for name in rest):
            raise StudioError(f"This file contains {method}, which is not supported; use a plain LoRA.")
    if not pairs:
        raise StudioError("This file contains no LoRA layers; it may be a full model or something else. Choose a LoRA's .safetensors file.")
    if rest:
        raise StudioError(f"This LoRA is damaged or of an unknown type: {len(rest)} tensors belong to no layer, the first is {sorted(rest)[0]!r}.")
    return pairs


def _check_magnitude(layer: str, pair: tuple[tuple[int, ...], tuple[int, ...]], shape: tuple[int, ...]) -> None:
    down, up = pair
    if len(down) != 2 or shape not in ((up[0],), (up[0], 1), (1, up[0])):
        raise StudioError(f"This LoRA is damaged: layer {layer!r} has {up[0]} outputs and a DoRA magnitude of shape {list(shape)}.")


def _kronecker_pairs(shapes: Shapes) -> tuple[dict, set[str]]:
    factors: dict[str, dict[str, tuple[int, ...]]] = {}
    for name, shape in shapes.items():
        if match := KRONECKER.fullmatch(name):
            factors.setdefault(match[1], {})[match[2]] = shape
    pairs, used = {}, set()
    for layer, parts in factors.items():
        whole, rank = [], 0
        for which in ("w1", "w2"):
            a, b = parts.get(f"{which}_a"), parts.get(f"{which}_b")
            if which in parts and a is None and b is None:
                whole.append(parts[which])
            elif which not in parts and a is not None and b is not None and len(a) > 1 and len(b) > 1 and a[1] == b[0]:
                whole.append((a[0], b[1]))
                rank = max(rank, a[1])
            else:
                raise StudioError(f"This LoKr file is damaged: the factor {which} of layer {layer!r} is incomplete. Download the file again.")
        if any(len(shape) != 2 for shape in whole):
            raise StudioError(f"This LoKr file contains convolutions (layer {layer!r}); LoKr is supported on linear layers only.")
        rank = rank or max(whole[1])
        (out_1, in_1), (out_2, in_2) = whole
        pairs[layer] = ((rank, in_1 * in_2), (out_1 * out_2, rank))
        used |= {f"{layer}.lokr_{part}" for part in parts} | {f"{layer}.alpha"}
    return pairs, used


def _checked(layer: str, down: tuple[int, ...], up: tuple[int, ...]) -> tuple[tuple[int, ...], tuple[int, ...]]:
    if len(down) not in (2, 4) or len(up) != len(down) or down[0] != up[1]:
        raise StudioError(f"This LoRA is damaged: layer {layer!r} has matrices of shapes {list(down)} and {list(up)}, which do not match.")
    if down[0] > 512:
        raise StudioError(f"Layer {layer!r} has rank {down[0]}; the studio accepts ranks up to 512. The file is damaged or not a LoRA.")
    return down, up


def _alpha(metadata: dict[str, str], rank: int) -> float:
    """The alpha that a reader must apply: from diffusers' lora_adapter_metadata or kohya's ss_network_alpha, else the rank."""
    try:
        config = bounded_json.loads(metadata.get("lora_adapter_metadata", "{}"))
        known = [value for key, value in config.items() if key.endswith("lora_alpha")]
        alpha = float(known[0] if known else metadata.get("ss_network_alpha", rank))
        if not math.isfinite(alpha):
            raise ValueError(alpha)
        return alpha
    except (ValueError, AttributeError, TypeError, OverflowError):
        raise StudioError("The header of this LoRA has an alpha that cannot be read; download the file again or ask its author.") from None
