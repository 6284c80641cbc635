"""Latents and prompt embeddings, computed once and kept by content: what these bytes or words were to this base is read back, bit for bit.

Text encoders and autoencoder come into memory only when something is not here yet, and go before the denoiser comes.
"""

import hashlib
import os
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

import numpy
import torch
from PIL import Image
from safetensors.torch import load_file
from torch import Tensor

from studio.adapters.format import serialise
from studio.core.workspace import write_atomically
from studio.families.base import Family
from studio.families.facts import BaseFolder

if TYPE_CHECKING:
    from diffusers import DiffusionPipeline

Conditions = dict[str, Tensor]
LARGEST_CACHE_BYTES = 20_000_000_000
"""Beyond this the longest unused encodings go, when a run starts."""
ROOM = 0.8
"""Share of a card's free memory that encoders may take; larger ones compute on the processor, once."""


class Encodings:
    """The encoders of one base, loaded when first needed, and everything they ever said, in `folder`."""

    def __init__(self, folder: Path, base: BaseFolder, family: Family, device: torch.device, dtype: torch.dtype):
        self.folder, self.base, self.family, self.device, self.dtype = folder, base, family, device, dtype
        # A card rounds otherwise than a processor: what a run finds here is what it would compute itself.
        self.identity = f"{base_identity(base, family)} {dtype} {device.type}"
        # Tokenizers and scheduler alone; models join it as they are needed.
        self.pipeline: DiffusionPipeline = family.load(base, dtype, parts=())
        self.notes: list[str] = []
        folder.mkdir(parents=True, exist_ok=True)
        make_room(folder, LARGEST_CACHE_BYTES)

    def latents(self, path: Path, sha256: str, size: tuple[int, int], mirror: bool) -> tuple[Tensor, Tensor]:
        """Mean and std of a picture's latents, float32, CHW."""

        def encode() -> dict[str, Tensor]:
            self.load(("vae",))
            mean, std = self.family.encode_images(self.pipeline, read_pixels(path, size, mirror))
            return {"mean": mean[0].float(), "std": std[0].float()}

        kept = self._kept(f"latents {sha256} {size} {mirror}", encode)
        return kept["mean"], kept["std"]

    def conditions(self, caption: str) -> Conditions:
        """One prompt's conditions, one row each, on the processor."""

        def encode() -> Conditions:
            self.load(self.family.text_encoder_names)
            return self.family.encode_prompts(self.pipeline, [caption])

        return self._kept(f"prompt {caption}", encode)

    def load(self, parts: tuple[str, ...]) -> None:
        """Bring these parts into memory, if they are not: the autoencoder in float32, since it runs once and rounding would stay for ever."""
        missing = [part for part in parts if self.pipeline.components[part] is None]
        if not missing:
            return
        dtype = torch.float32 if missing == ["vae"] else self.dtype
        loaded = self.family.load(self.base, dtype, parts=missing)
        for part in missing:
            module = loaded.components[part]
            self.pipeline.register_modules(**{part: module.to(self._place(module))})

    def load_decoder(self) -> None:
        """The autoencoder in the precision that pictures are drawn in, as plain diffusers would load it."""
        vae = self.pipeline.components["vae"]
        if vae is not None and vae.dtype == self.dtype:
            return
        self.drop(("vae",))
        self.pipeline.register_modules(vae=self.family.load(self.base, self.dtype, parts=("vae",)).components["vae"].to(self.device))

    def drop(self, parts: tuple[str, ...]) -> None:
        self.pipeline.register_modules(**dict.fromkeys(parts))
        if self.device.type == "cuda":
            torch.cuda.empty_cache()

    def _place(self, module: torch.nn.Module) -> torch.device:
        if self.device.type != "cuda":
            return self.device
        needed, free = sum(weight.nbytes for weight in module.parameters()), torch.cuda.mem_get_info()[0]
        if needed < ROOM * free:
            return self.device
        self.notes.append(
            f"The text encoder needs {needed / 1e9:.1f} GB and the card has {free / 1e9:.1f} GB free, so prompts were encoded on the processor, once."
        )
        return torch.device("cpu")

    @torch.no_grad()
    def _kept(self, what: str, compute: Callable[[], Conditions]) -> Conditions:
        path = self.folder / f"{hashlib.sha256(f'{self.identity} {what}'.encode()).hexdigest()}.safetensors"
        if path.exists():
            os.utime(path)
        else:
            write_atomically(path, serialise(compute(), {}))
        return load_file(path)


def base_identity(base: BaseFolder, family: Family) -> str:
    """The commit of a Hub model; for what lies on this computer, which anyone may change, a hash of the weights that encode pictures and words."""
    encoders = ("vae", *family.text_encoder_names)
    in_file = base.checkpoint is not None and set(encoders) <= set(family.checkpoint_parts)
    if base.revision and not in_file:
        return f"{base.reference or base.id}@{base.revision}"
    files = [base.checkpoint] if in_file else [file for part in encoders for file in sorted((base.path / part).glob("*.safetensors"))]
    digest = hashlib.sha256()
    for file in files:
        with open(file, "rb") as opened:
            digest.update(hashlib.file_digest(opened, "sha256").digest())
    return digest.hexdigest()


def make_room(folder: Path, largest: int) -> None:
    """Delete the longest unused files of a cache until it holds at most `largest` bytes."""
    files = []
    for path in folder.glob("*.safetensors"):
        try:
            stat = path.stat()
        except FileNotFoundError:
            continue
        files.append((stat.st_mtime_ns, stat.st_size, path))
    total = sum(size for _, size, _ in files)
    for _, size, path in sorted(files):
        if total <= largest:
            return
        path.unlink(missing_ok=True)
        total -= size


def read_pixels(path: Path, size: tuple[int, int], mirror: bool) -> Tensor:
    """A picture scaled to cover (height, width), cut to it around the middle: 1CHW in -1..1."""
    pixels_HWC = _covering(path, size, mirror, "RGB")
    return torch.from_numpy(pixels_HWC / 127.5 - 1).permute(2, 0, 1)[None].contiguous()


def read_mask(path: Path, size: tuple[int, int], latent_size: tuple[int, int], mirror: bool, floor: float) -> Tensor:
    """How much each latent of a picture counts: 1HW in floor..1, the mean of the mask's pixels over it."""
    mask_1HW = torch.from_numpy(_covering(path, size, mirror, "L") / 255.0)[None]
    return floor + (1 - floor) * torch.nn.functional.adaptive_avg_pool2d(mask_1HW, latent_size)


def _covering(path: Path, size: tuple[int, int], mirror: bool, mode: str) -> numpy.ndarray:
    height, width = size
    with Image.open(path, formats=["PNG"]) as opened:
        picture = opened.convert(mode)
    scale = max(height / picture.height, width / picture.width)
    if (picture.width, picture.height) != (width, height):
        picture = picture.resize((max(width, round(picture.width * scale)), max(height, round(picture.height * scale))), Image.Resampling.LANCZOS)
    left, top = (picture.width - width) // 2, (picture.height - height) // 2
    pixels = numpy.asarray(picture.crop((left, top, left + width, top + height)), dtype=numpy.float32)
    return pixels[:, ::-1].copy() if mirror else pixels.copy()
