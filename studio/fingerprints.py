"""Which base model an adapter file was made for, told from its keys and shapes alone. Facts only: no torch, nothing is opened.

Every family of the ecosystem that people bring is named here, also those the studio cannot train, so that a refusal can say
"made for SDXL" instead of "does not fit".
"""

import json
import math
import re
from collections import Counter
from dataclasses import dataclass

from studio.errors import StudioError

Shapes = dict[str, tuple[int, ...]]

PAIRS = (
    (".lora_A.weight", ".lora_B.weight"),
    (".lora_A.default.weight", ".lora_B.default.weight"),
    (".lora_down.weight", ".lora_up.weight"),
    (".lora.down.weight", ".lora.up.weight"),
    ("_lora.down.weight", "_lora.up.weight"),
    (".lora_linear_layer.down.weight", ".lora_linear_layer.up.weight"),
)
"""Endings of the two halves of a layer: PEFT, PEFT with its adapter name left in, kohya, and three older spellings of diffusers."""

MAGNITUDES = (".lora_magnitude_vector", ".lora_magnitude_vector.weight", ".lora_magnitude_vector.default.weight")
"""Endings of DoRA's third tensor of a layer (Liu et al. 2024), as PEFT spells it."""

KRONECKER = re.compile(r"(.+)\.lokr_(w1|w1_a|w1_b|w2|w2_a|w2_b)")
"""LoKr (Yeh et al. 2023): a layer's change is the Kronecker product of w1 and w2, each whole or as a product of two."""

OTHER_METHODS = {
    "dora_scale": "DoRA in another program's layout",
    "hada_w1": "LoHa",
    "lokr_t2": "LoKr with a Tucker core",
    "oft_": "OFT",
    ".diff": "a full difference of weights",
}

PREFIX = re.compile(r"^(transformer\.|base_model\.model\.|diffusion_model\.|lora_unet_|lora_transformer_)")
"""What stands before a denoiser's layer: in diffusers, from PEFT alone, from ComfyUI and the original codes, from kohya."""
BLOCK = r"^transformer\.blocks\.\d+\."


@dataclass(frozen=True)
class Fingerprint:
    """What an adapter file is: family by name and in people's words, rank, alpha as its reader must apply it, and the width
    that tells the members of a family apart (see Family.width), None where the file does not show it."""

    family: str
    title: str
    rank: int
    alpha: float
    width: int | None
    layers: int


def fingerprint(shapes: Shapes, metadata: dict[str, str]) -> Fingerprint:
    """Raise StudioError when this is no LoRA, has half a layer, or belongs to a family nobody here knows."""
    pairs = layer_pairs(shapes)
    ranks = Counter(down[0] for down, _ in pairs.values())
    rank = ranks.most_common(1)[0][0]
    family, title, width = _family(pairs)
    return Fingerprint(family, title, rank, _alpha(metadata, rank), width, len(pairs))


def layer_pairs(shapes: Shapes) -> dict[str, tuple[tuple[int, ...], tuple[int, ...]]]:
    """layer -> shapes of its down (A) and up (B) halves. Anything that is neither half nor an alpha is an error, not skipped.

    A LoKr layer is told as the pair that would change the same numbers.
    """
    pairs, used = _kronecker_pairs(shapes)
    for name, shape in shapes.items():
        for down, up in PAIRS:
            if name.endswith(down):
                layer = name.removesuffix(down)
                partner = layer + up
                if partner not in shapes:
                    raise StudioError(f"This LoRA is damaged: {name!r} has no second half {partner!r}. Get the file again.")
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
            raise StudioError(f"This file holds {method}, not a plain LoRA; the studio can use plain LoRA files. Look for one of those.")
    if not pairs:
        raise StudioError("This file holds no LoRA layers; it may be a whole model or something else. Choose a LoRA's .safetensors file.")
    if rest:
        raise StudioError(f"This LoRA is damaged or of an unknown kind: {len(rest)} tensors belong to no layer, the first is {sorted(rest)[0]!r}.")
    return pairs


def _check_magnitude(layer: str, pair: tuple[tuple[int, ...], tuple[int, ...]], shape: tuple[int, ...]) -> None:
    down, up = pair
    if len(down) != 2 or shape not in ((up[0],), (up[0], 1), (1, up[0])):
        raise StudioError(f"This LoRA is damaged: layer {layer!r} gives {up[0]} numbers and has a DoRA magnitude of shape {list(shape)}.")


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
            if (which in parts) == (a is not None or b is not None) or (a is None) != (b is None) or (a and a[1] != b[0]):
                raise StudioError(f"This LoKr file is damaged: the factor {which} of layer {layer!r} is not whole. Get the file again.")
            whole.append(parts[which] if which in parts else (a[0], b[1]))
            rank = max(rank, a[1] if a else 0)
        if any(len(shape) != 2 for shape in whole):
            raise StudioError(f"This LoKr file teaches convolutions (layer {layer!r}); the studio can use LoKr on linear layers.")
        rank = rank or max(whole[1])
        (out_1, in_1), (out_2, in_2) = whole
        pairs[layer] = ((rank, in_1 * in_2), (out_1 * out_2, rank))
        used |= {f"{layer}.lokr_{part}" for part in parts} | {f"{layer}.alpha"}
    return pairs, used


def _checked(layer: str, down: tuple[int, ...], up: tuple[int, ...]) -> tuple[tuple[int, ...], tuple[int, ...]]:
    if len(down) not in (2, 4) or len(up) != len(down) or down[0] != up[1]:
        raise StudioError(f"This LoRA is damaged: layer {layer!r} has halves of shapes {list(down)} and {list(up)}, which do not fit together.")
    if down[0] > 512:
        raise StudioError(f"Layer {layer!r} has rank {down[0]}; the studio accepts ranks up to 512. The file is damaged or not a LoRA.")
    return down, up


def _alpha(metadata: dict[str, str], rank: int) -> float:
    """The alpha a reader must apply. diffusers keeps it in lora_adapter_metadata, kohya in ss_network_alpha; without either it is the rank."""
    try:
        config = json.loads(metadata.get("lora_adapter_metadata", "{}"))
        known = [value for key, value in config.items() if key.endswith("lora_alpha")]
        alpha = float(known[0] if known else metadata.get("ss_network_alpha", rank))
        if not math.isfinite(alpha):
            raise ValueError(alpha)
        return alpha
    except (ValueError, AttributeError, TypeError, OverflowError, RecursionError):
        raise StudioError("This LoRA's header states an alpha that cannot be read; get the file again or ask its maker.") from None


def _family(pairs) -> tuple[str, str, int | None]:
    plain = [re.sub(r"[._]", ".", PREFIX.sub("", name)) for name in pairs]

    def any_has(pattern: str) -> bool:
        return any(re.search(pattern, name) for name in plain)

    def widths(pattern: str) -> tuple[int | None, int | None]:
        """In and out of the first layer that is called so."""
        return next(((down[1], up[0]) for (down, up), name in zip(pairs.values(), plain) if re.search(pattern, name)), (None, None))

    # FLUX.2 fuses query, key, value and a gated feed-forward of three times the width: 9 widths out, where FLUX.1 has 7.
    inside, outside = widths(r"single\.blocks\.\d+\.linear1$")
    if any_has(rf"to\.qkv\.mlp\.proj|(double|single)\.stream\.modulation|{BLOCK}ff(\.context)?\.linear\.") or (inside and outside == 9 * inside):
        return "flux2", "FLUX.2", None
    if any_has(r"single\.transformer\.blocks\.\d+\.|(double|single)\.blocks\.\d+\."):
        return "flux", "FLUX.1", None
    if any_has(r"^(layers|noise\.refiner|context\.refiner)\.\d+\.(attention|feed\.forward|adaLN)"):
        return "z-image", "Z-Image", None
    if _is_krea(any_has, widths):
        return "krea-2", "Krea 2", None
    if any_has(rf"{BLOCK}(img\.mlp\.net|txt\.mlp|img\.mod|txt\.mod)\."):
        return "qwen-image", "Qwen-Image", None
    if any_has(rf"{BLOCK}img\.mlp\."):
        return "qwen-image-2.1", "Qwen-Image 2.1", None
    if any_has(rf"^joint\.blocks\.\d+\.|{BLOCK}(attn2?|ff|ff\.context|norm1|norm1\.context)\."):
        width, _ = widths(rf"{BLOCK}(attn2?\.|ff(\.context)?\.net\.0)|^joint\.blocks\.\d+\.(x|context)\.block\.(attn2?\.|mlp\.fc1)")
        # Attention is called the same in three families. Two of them are 3072 wide, of which Qwen-Image has another name for the rest of a block.
        if width == 3072:
            return ("flux", "FLUX.1", None) if any_has(rf"{BLOCK}(ff|norm1)") else ("qwen-image", "Qwen-Image", None)
        return "sd3", "Stable Diffusion 3.5", width
    # A kohya file of SDXL numbers the blocks as the original code does; only SDXL has a second text encoder beside a U-Net.
    if any_has(r"^unet\.|^((down|up|input|output)\.blocks|(mid|middle)\.block)\.|^(lora\.te\d?|text\.encoder(\.2)?)\."):
        width, _ = widths(r"attn2\.to\.[kv](\.|$)")
        # SDXL stacks transformer blocks, the others have one in each place.
        if width == 2048 or any_has(r"^(lora\.te2|text\.encoder\.2)\.|(input|output)\.blocks\.\d|attentions\.\d+\.transformer\.blocks\.[1-9]"):
            return "sdxl", "SDXL", width or 2048
        return "stable-diffusion", "Stable Diffusion", width
    raise StudioError(f"This LoRA was made for a kind of model the studio does not know (its first layer is {sorted(pairs)[0]!r}).")


def _is_krea(any_has, widths) -> bool:
    """By its gates and fusion of text, in diffusers' names or its own; or by attention alone, where it has fewer keys than queries."""
    own = r"^blocks\.\d+\.(attn\.(w[qkvo]|gate)|mlp\.(gate|up|down))$|^(txtfusion|text\.fusion)\."
    if any_has(rf"{own}|{BLOCK}(attn\.to\.gate|ff\.(gate|up|down))$"):
        return True
    (_, queries), (_, keys) = widths(rf"{BLOCK}attn\.to\.q$"), widths(rf"{BLOCK}attn\.to\.[kv]$")
    return None not in (queries, keys) and keys < queries
