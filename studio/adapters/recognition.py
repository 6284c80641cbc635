"""Recognition of the base model of a LoRA from the names and widths of its layers.

It covers common families, including some that the studio cannot train, so that an error can name the LoRA's own base.
"""

import re

from studio.core.errors import StudioError

Pairs = dict[str, tuple[tuple[int, ...], tuple[int, ...]]]
"""layer -> shapes of its down (A) and up (B) matrices."""

PREFIX = re.compile(r"^(transformer\.|base_model\.model\.|diffusion_model\.|lora_unet_|lora_transformer_)")
"""Prefixes of denoiser layers: in diffusers, from PEFT alone, from ComfyUI and the original code, from kohya."""

TITLES = {
    "chroma": "Chroma",
    "flux": "FLUX.1",
    "flux2": "FLUX.2",
    "krea-2": "Krea 2",
    "lumina2": "Lumina Image 2",
    "qwen-image": "Qwen-Image",
    "qwen-image-2.1": "Qwen-Image 2.1",
    "sd3": "Stable Diffusion 3.5",
    "sdxl": "SDXL",
    "stable-diffusion": "Stable Diffusion",
    "z-image": "Z-Image",
}
STATED = {"flux.2": "flux2", "flux-1": "flux", "flux.1": "flux", "chroma": "chroma", "qwen-image": "qwen-image", "stable-diffusion-v3": "sd3"}
"""Lower-case prefix of the ModelSpec architecture -> family."""

BLOCK = r"^transformer\.blocks\.\d+\."
FLUX = r"(img|txt)\.mod\.|blocks\.\d+\.modulation|norm1?(\.context)?\.linear$|time\.text\.embed|vector\.in|guidance\.in|^lora\.te|^text\.encoder"
"""Layers of FLUX.1 that Chroma lacks: a modulation in each block, and CLIP."""
FLUX2 = r"to\.qkv\.mlp\.proj|(double|single)\.stream\.modulation|ff(\.context)?\.linear\.(in|out)$|single\.transformer\.blocks\.\d+\.attn\.to\.out$"
KREA = rf"^blocks\.\d+\.(attn\.(w[qkvo]|gate)|mlp\.(gate|up|down))$|^(txtfusion|text\.fusion)\.|{BLOCK}(attn\.to\.gate|ff\.(gate|up|down))$"
Z_IMAGE = r"^(layers|noise\.refiner|context\.refiner)\.\d+\.(attention|feed\.forward|adaLN)\."
UNET = r"^unet\.|^((down|up|input|output)\.blocks|(mid|middle)\.block)\.|^(lora\.te\d?|text\.encoder(\.2)?)\."
RATIOS = {
    r"single\.blocks\.\d+\.linear1$": {"flux": (1, 7), "flux2": (1, 9)},
    r"single\.blocks\.\d+\.linear2$": {"flux": (5, 1), "flux2": (4, 1)},
    r"double\.blocks\.\d+\.(img|txt)\.mlp\.0$": {"flux": (1, 4), "flux2": (1, 6)},
    r"double\.blocks\.\d+\.(img|txt)\.mlp\.2$": {"flux": (4, 1), "flux2": (3, 1)},
}
"""Layer in the original naming -> family -> (inputs, outputs) in multiples of the width."""


def recognise(pairs: Pairs, stated: str) -> tuple[str, str, int | None]:
    """(family, its title, the width that distinguishes its bases, None if unknown).

    `stated` is the architecture in the file's header. It is untrusted, so it only decides between families that match the keys equally.
    """
    family, width = _Layers(pairs).family(stated)
    return family, TITLES[family], width


class _Layers:
    """The layers of one file, without prefixes and with dots as separators."""

    def __init__(self, pairs: Pairs):
        self.pairs = pairs
        self.names = [re.sub(r"[._]", ".", PREFIX.sub("", name)) for name in pairs]

    def has(self, pattern: str) -> bool:
        return any(re.search(pattern, name) for name in self.names)

    def widths(self, pattern: str) -> tuple[int | None, int | None]:
        """Inputs and outputs of the first layer that matches."""
        found = ((down[1], up[0]) for (down, up), name in zip(self.pairs.values(), self.names) if re.search(pattern, name))
        return next(found, (None, None))

    def family(self, stated: str) -> tuple[str, int | None]:
        # Transformers first: kohya's keys for them start like those of a U-Net.
        if self.has(r"distilled\.guidance\.layer"):
            return "chroma", None
        if found := self._flux_family(stated):
            return found
        if self.has(Z_IMAGE):
            # An older model has blocks of the same names, 2304 wide.
            return ("lumina2" if self.widths(r"attention\.(qkv|to\.q)$")[0] == 2304 else "z-image"), None
        if self._is_krea():
            return "krea-2", None
        if self.has(rf"{BLOCK}(img\.mlp\.net|txt\.mlp|img\.mod|txt\.mod)\."):
            return "qwen-image", None
        if self.has(rf"{BLOCK}img\.mlp\."):
            return "qwen-image-2.1", None
        if self.has(rf"^joint\.blocks\.\d+\.|{BLOCK}(attn2?|ff|ff\.context|norm1|norm1\.context)\."):
            return self._first_blocks(stated)
        if self.has(UNET):
            width, _ = self.widths(r"attn2\.to\.[kv](\.|$)")
            # SDXL has a second text encoder, the original code's block numbers (kohya), and stacked transformer blocks.
            if width == 2048 or self.has(r"^(lora\.te2|text\.encoder\.2)\.|(input|output)\.blocks\.\d|attentions\.\d+\.transformer\.blocks\.[1-9]"):
                return "sdxl", width or 2048
            return "stable-diffusion", width
        raise StudioError(f"This LoRA was made for an unknown model family (its first layer is {sorted(self.pairs)[0]!r}).")

    def _flux_family(self, stated: str) -> tuple[str, int | None] | None:
        """FLUX.1, Chroma or FLUX.2, whose blocks have the same names; None for anything else."""
        # Every layer of a block has inputs or outputs of the token width, and none are narrower.
        width = min((min(down[1], up[0]) for name, (down, up) in zip(self.names, self.pairs.values()) if "blocks." in name), default=None)
        ratios = {_ratio(name, *shapes) for name, shapes in zip(self.names, self.pairs.values())}
        if self.has(FLUX2) or "flux2" in ratios:
            return "flux2", width
        if not self.has(r"single\.transformer\.blocks\.\d+\.|(double|single)\.blocks\.\d+\."):
            return None
        fitting = ["flux"] if self.has(FLUX) else ["flux", "chroma"]
        if "flux" not in ratios and not self.has(r"single\.|mod"):
            # The attention of the first blocks of FLUX.1 and FLUX.2 differs at most in width.
            fitting = ["flux2"] if width in (4096, 6144) else [*fitting, "flux2"]
        chosen = _choose(fitting, stated)
        return chosen, width if chosen == "flux2" else None

    def _first_blocks(self, stated: str) -> tuple[str, int | None]:
        """Blocks whose attention has the same names in five families: recognised by other layers, width and the stated architecture."""
        width, _ = self.widths(rf"{BLOCK}(attn2?\.|ff(\.context)?\.net\.0)|^joint\.blocks\.\d+\.(x|context)\.block\.(attn2?\.|mlp\.fc1)")
        others = ["flux", "flux2", "chroma"]
        fitting = {1536: ["sd3"], 2432: ["sd3"], 3072: ["qwen-image", *others], 4096: ["flux2"], 6144: ["flux2"]}.get(width or 0)
        if self.has(rf"{BLOCK}(ff|norm1)"):
            # In Qwen-Image and FLUX.2 the other layers of a block have different names.
            fitting = ["flux", "chroma"] if width == 3072 else ["sd3", "flux", "chroma"]
        chosen = _choose(fitting or ["sd3", "qwen-image", *others], stated)
        return chosen, width if chosen in ("flux2", "sd3") else None

    def _is_krea(self) -> bool:
        """Recognised by gates and text fusion, in diffusers' or its own naming, or by attention with fewer keys than queries."""
        (_, queries), (_, keys) = self.widths(rf"{BLOCK}attn\.to\.q$"), self.widths(rf"{BLOCK}attn\.to\.[kv]$")
        return self.has(KREA) or (queries is not None and keys is not None and keys < queries)


def _choose(fitting: list[str], stated: str) -> str:
    """The stated family if it matches the keys, else the first that does."""
    family = next((name for mark, name in STATED.items() if stated.lower().startswith(mark)), None)
    return family if family in fitting else fitting[0]


def _ratio(name: str, down: tuple[int, ...], up: tuple[int, ...]) -> str | None:
    """The FLUX version of a fused layer, by its size in multiples of the width: FLUX.2's feed-forward is gated with a hidden size of three widths,
    FLUX.1's plain with four."""
    for pattern, numbers in RATIOS.items():
        if re.search(pattern, name):
            return next((family for family, (inside, outside) in numbers.items() if down[1] * outside == up[0] * inside), None)
    return None
