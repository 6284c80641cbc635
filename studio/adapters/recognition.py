"""Which base model a LoRA was made for, told from the names and widths of its layers.

Every family of the ecosystem that people bring is named here, also those the studio cannot train, so that a refusal can say
"made for SDXL" instead of "does not fit".
"""

import re

from studio.core.errors import StudioError

Pairs = dict[str, tuple[tuple[int, ...], tuple[int, ...]]]
"""layer -> shapes of its down (A) and up (B) halves."""

PREFIX = re.compile(r"^(transformer\.|base_model\.model\.|diffusion_model\.|lora_unet_|lora_transformer_)")
"""What stands before a denoiser's layer: in diffusers, from PEFT alone, from ComfyUI and the original codes, from kohya."""

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
"""How the ModelSpec architecture of a family begins, in small letters."""

BLOCK = r"^transformer\.blocks\.\d+\."
FLUX = r"(img|txt)\.mod\.|blocks\.\d+\.modulation|norm1?(\.context)?\.linear$|time\.text\.embed|vector\.in|guidance\.in|^lora\.te|^text\.encoder"
"""What FLUX.1 has and Chroma has not: a modulation of its own in each block, and CLIP."""
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
"""Layers in the original spelling -> family -> how many widths they take and give."""


def recognise(pairs: Pairs, stated: str) -> tuple[str, str, int | None]:
    """(family, its title, the width that tells its members apart, None where the file does not show it).

    `stated` is the architecture in the file's header. Anyone can write one, so it only decides between families that the keys fit alike.
    """
    family, width = _Layers(pairs).family(stated)
    return family, TITLES[family], width


class _Layers:
    """The layers of one file, with dots between words and without their prefix."""

    def __init__(self, pairs: Pairs):
        self.pairs = pairs
        self.names = [re.sub(r"[._]", ".", PREFIX.sub("", name)) for name in pairs]

    def has(self, pattern: str) -> bool:
        return any(re.search(pattern, name) for name in self.names)

    def widths(self, pattern: str) -> tuple[int | None, int | None]:
        """In and out of the first layer that is called so."""
        found = ((down[1], up[0]) for (down, up), name in zip(self.pairs.values(), self.names) if re.search(pattern, name))
        return next(found, (None, None))

    def family(self, stated: str) -> tuple[str, int | None]:
        # Transformers first: kohya's files of theirs begin as those of a U-Net do.
        if self.has(r"distilled\.guidance\.layer"):
            return "chroma", None
        if kin := self._flux_kin(stated):
            return kin
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
            # SDXL has a second text encoder, numbers its blocks as the original code does (kohya), and stacks transformer blocks.
            if width == 2048 or self.has(r"^(lora\.te2|text\.encoder\.2)\.|(input|output)\.blocks\.\d|attentions\.\d+\.transformer\.blocks\.[1-9]"):
                return "sdxl", width or 2048
            return "stable-diffusion", width
        raise StudioError(f"This LoRA was made for a kind of model the studio does not know (its first layer is {sorted(self.pairs)[0]!r}).")

    def _flux_kin(self, stated: str) -> tuple[str, int | None] | None:
        """FLUX.1, Chroma or FLUX.2, whose blocks go by the same names; None for anything else."""
        # Every layer of a block takes or gives the tokens' width, and nothing narrower.
        width = min((min(down[1], up[0]) for name, (down, up) in zip(self.names, self.pairs.values()) if "blocks." in name), default=None)
        ratios = {_ratio(name, *halves) for name, halves in zip(self.names, self.pairs.values())}
        if self.has(FLUX2) or "flux2" in ratios:
            return "flux2", width
        if not self.has(r"single\.transformer\.blocks\.\d+\.|(double|single)\.blocks\.\d+\."):
            return None
        fitting = ["flux"] if self.has(FLUX) else ["flux", "chroma"]
        if "flux" not in ratios and not self.has(r"single\.|mod"):
            # The attention of FLUX.1's first blocks and FLUX.2's differs in nothing but, often, the width.
            fitting = ["flux2"] if width in (4096, 6144) else [*fitting, "flux2"]
        chosen = _choose(fitting, stated)
        return chosen, width if chosen == "flux2" else None

    def _first_blocks(self, stated: str) -> tuple[str, int | None]:
        """Blocks whose attention goes by the same names in five families: told by what else is there, by width, and by what the file says."""
        width, _ = self.widths(rf"{BLOCK}(attn2?\.|ff(\.context)?\.net\.0)|^joint\.blocks\.\d+\.(x|context)\.block\.(attn2?\.|mlp\.fc1)")
        others = ["flux", "flux2", "chroma"]
        fitting = {1536: ["sd3"], 2432: ["sd3"], 3072: ["qwen-image", *others], 4096: ["flux2"], 6144: ["flux2"]}.get(width)
        if self.has(rf"{BLOCK}(ff|norm1)"):
            # Qwen-Image and FLUX.2 have other names for the rest of a block.
            fitting = ["flux", "chroma"] if width == 3072 else ["sd3", "flux", "chroma"]
        chosen = _choose(fitting or ["sd3", "qwen-image", *others], stated)
        return chosen, width if chosen in ("flux2", "sd3") else None

    def _is_krea(self) -> bool:
        """By its gates and fusion of text, in diffusers' names or its own; or by attention alone, where it has fewer keys than queries."""
        (_, queries), (_, keys) = self.widths(rf"{BLOCK}attn\.to\.q$"), self.widths(rf"{BLOCK}attn\.to\.[kv]$")
        return self.has(KREA) or (None not in (queries, keys) and keys < queries)


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
