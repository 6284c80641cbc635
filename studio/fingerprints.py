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

OTHER_METHODS = {
    "lora_magnitude_vector": "DoRA",
    "dora_scale": "DoRA",
    "hada_w1": "LoHa",
    "lokr_w1": "LoKr",
    "oft_": "OFT",
    ".diff": "a full difference of weights",
}

TITLES = {"flux": "FLUX.1", "flux2": "FLUX.2", "chroma": "Chroma", "qwen-image": "Qwen-Image", "sd3": "Stable Diffusion 3"}
STATED = {"flux.2": "flux2", "flux-1": "flux", "flux.1": "flux", "chroma": "chroma", "qwen-image": "qwen-image", "stable-diffusion-3": "sd3"}
"""How the ModelSpec architecture of a family begins, in small letters."""

FLUX = r"(img|txt)\.mod\.|blocks\.\d+\.modulation|norm1?(\.context)?\.linear$|time\.text\.embed|vector\.in|guidance\.in|^lora\.te|^text\.encoder"
"""What FLUX.1 has and Chroma has not: a modulation of its own in each block, and CLIP."""
FLUX2 = r"to\.qkv\.mlp\.proj|(double|single)\.stream\.modulation|ff(\.context)?\.linear\.(in|out)$|single\.transformer\.blocks\.\d+\.attn\.to\.out$"
Z_IMAGE = r"(layers|noise\.refiner|context\.refiner)\.\d+\.(attention|feed\.forward|adaLN)\."
RATIOS = {
    r"single\.blocks\.\d+\.linear1$": {"flux": (1, 7), "flux2": (1, 9)},
    r"single\.blocks\.\d+\.linear2$": {"flux": (5, 1), "flux2": (4, 1)},
    r"double\.blocks\.\d+\.(img|txt)\.mlp\.0$": {"flux": (1, 4), "flux2": (1, 6)},
    r"double\.blocks\.\d+\.(img|txt)\.mlp\.2$": {"flux": (4, 1), "flux2": (3, 1)},
}
"""Layers in the original spelling -> family -> how many widths they take and give."""


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
    family, title, width = _family(pairs, metadata.get("modelspec.architecture", ""))
    return Fingerprint(family, title, rank, _alpha(metadata, rank), width, len(pairs))


def layer_pairs(shapes: Shapes) -> dict[str, tuple[tuple[int, ...], tuple[int, ...]]]:
    """layer -> shapes of its down (A) and up (B) halves. Anything that is neither half nor an alpha is an error, not skipped."""
    pairs, used = {}, set()
    for name, shape in shapes.items():
        for down, up in PAIRS:
            if name.endswith(down):
                layer = name.removesuffix(down)
                partner = layer + up
                if partner not in shapes:
                    raise StudioError(f"This LoRA is damaged: {name!r} has no second half {partner!r}. Get the file again.")
                pairs[layer] = _checked(layer, shape, shapes[partner])
                used |= {name, partner, f"{layer}.alpha"}
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


def _family(pairs, stated: str) -> tuple[str, str, int | None]:
    """`stated` is the architecture in the file's header. Anyone can write one, so it only decides between families that the keys fit alike."""
    names = [name.replace("diffusion_model.", "transformer.", 1) for name in pairs]
    plain = [re.sub(r"[._]", ".", name) for name in names]

    def any_has(pattern: str) -> bool:
        return any(re.search(pattern, name) for name in plain)

    def input_width(pattern: str) -> int | None:
        return next((pairs[layer][0][1] for layer, name in zip(pairs, plain) if re.search(pattern, name)), None)

    # A kohya file of SDXL numbers the blocks as the original code does; only SDXL has a second text encoder beside a U-Net.
    if any_has(r"^(lora\.unet|unet)\.|^(lora\.te\d?|text\.encoder(\.2)?)\.") and not any_has(
        rf"double\.blocks|single\.blocks|^transformer|{Z_IMAGE}"
    ):
        width = input_width(r"attn2\.to\.[kv](\.|$)")
        # SDXL stacks transformer blocks, the others have one in each place.
        if width == 2048 or any_has(r"^(lora\.te2|text\.encoder\.2)\.|(input|output)\.blocks\.\d|attentions\.\d+\.transformer\.blocks\.[1-9]"):
            return "sdxl", "SDXL", width or 2048
        return "stable-diffusion", "Stable Diffusion", width
    if kin := _flux_kin(plain, pairs, stated):
        return kin
    if any_has(r"img\.(mlp|mod)|txt\.(mlp|mod)"):
        return "qwen-image", "Qwen-Image", None
    if any_has(Z_IMAGE):
        # An older model with blocks of the same names, 2304 wide.
        return ("lumina2", "Lumina Image 2", None) if input_width(r"attention\.(qkv|to\.q)$") == 2304 else ("z-image", "Z-Image", None)
    if any_has(r"joint\.blocks\.\d+|transformer\.blocks\.\d+\.(attn2?|ff|ff\.context|norm1)\."):
        width = input_width(r"transformer\.blocks\.\d+\.attn\.to\.q|joint\.blocks\.\d+\.x\.block\.attn\.qkv")
        # All stack blocks of these names; Qwen-Image is 3072 wide, as FLUX.1 is, SD3 and 3.5 are 1536 or 2432, FLUX.2 is 3072, 4096 or 6144.
        others = ["flux", "flux2", "chroma"]
        fitting = {1536: ["sd3"], 2432: ["sd3"], 3072: ["qwen-image", *others], 4096: ["flux2"], 6144: ["flux2"]}
        chosen = _choose(fitting.get(width, ["sd3", "qwen-image", *others]), stated)
        return chosen, TITLES[chosen], width if chosen == "flux2" else None
    raise StudioError(f"This LoRA was made for a kind of model the studio does not know (its first layer is {sorted(pairs)[0]!r}).")


def _flux_kin(plain: list[str], pairs, stated: str) -> tuple[str, str, int | None] | None:
    """FLUX.1, Chroma or FLUX.2, whose blocks go by the same names; None for anything else."""

    def any_has(pattern: str) -> bool:
        return any(re.search(pattern, name) for name in plain)

    if any_has(r"distilled\.guidance\.layer"):
        return "chroma", "Chroma", None
    # Every layer of a block takes or gives the tokens' width, and nothing narrower.
    width = min((min(down[1], up[0]) for name, (down, up) in zip(plain, pairs.values()) if "blocks." in name), default=None)
    ratios = {_ratio(name, *halves) for name, halves in zip(plain, pairs.values())}
    if any_has(FLUX2) or "flux2" in ratios:
        return "flux2", "FLUX.2", width
    if not any_has(r"single\.transformer\.blocks\.\d+\.|(double|single)\.blocks\.\d+\."):
        return None
    fitting = ["flux"] if any_has(FLUX) else ["flux", "chroma"]
    if "flux" not in ratios and not any_has(r"single\.|mod"):
        # The attention of FLUX.1's first blocks and FLUX.2's differs in nothing but, often, the width.
        fitting = ["flux2"] if width in (4096, 6144) else [*fitting, "flux2"]
    chosen = _choose(fitting, stated)
    return chosen, TITLES[chosen], width if chosen == "flux2" else None


def _choose(fitting: list[str], stated: str) -> str:
    """The family that the header's architecture names, if the keys fit it; else the first that they fit."""
    said = next((family for mark, family in STATED.items() if stated.lower().startswith(mark)), None)
    return said if said in fitting else fitting[0]


def _ratio(name: str, down: tuple[int, ...], up: tuple[int, ...]) -> str | None:
    """Which FLUX a fused layer is of, told by how many widths it takes or gives: FLUX.2's feed-forward is gated and three widths deep,
    FLUX.1's plain and four."""
    for pattern, numbers in RATIOS.items():
        if re.search(pattern, name):
            return next((family for family, (inside, outside) in numbers.items() if down[1] * outside == up[0] * inside), None)
    return None
