"""Cache of latents and prompt embeddings, keyed by base, library versions, dtype, device and content; a cached value is read back bit for bit.

Text encoders and VAE are loaded only if something is not cached, and unloaded before the denoiser is loaded.
"""

import contextlib
import hashlib
import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import numpy
import torch
from PIL import Image
from safetensors.torch import load_file
from torch import Tensor

from studio.adapters.format import serialise
from studio.core import hashes, packages, platform, storage
from studio.core.workspace import write_atomically
from studio.devices import memory
from studio.devices.measure import encoding_bytes
from studio.families.base import Family
from studio.families.facts import BaseFolder

if TYPE_CHECKING:
    from diffusers import DiffusionPipeline

Conditions = dict[str, Tensor]
MAX_CACHE_BYTES = 20_000_000_000
"""Size limit of the cache; the least recently used files are deleted when a run starts."""
LIBRARIES = ("torch", "diffusers", "transformers", "tokenizers", "pillow")
"""Packages whose version may change what an encoder returns."""
SETTINGS_SUFFIXES = (".json", ".txt", ".model", ".jinja")
"""Suffixes of configs, vocabularies and chat templates."""


class Encodings:
    """Encoders of one base, loaded when first needed, and the cache of their outputs in `folder`.

    `notes` collects messages for the run's events.
    """

    def __init__(self, folder: Path, base: BaseFolder, family: Family, device: torch.device, dtype: torch.dtype):
        self.folder, self.base, self.family, self.device, self.dtype = folder, base, family, device, dtype
        folder.mkdir(parents=True, exist_ok=True)
        # GPU and CPU round differently, so each has its own entries: a run reads what it would compute itself.
        self.identity = f"{base_identity(base, family, folder)} {dtype} {device.type}"
        # Starts with tokenizers and scheduler only; models are added when needed.
        self.pipeline: DiffusionPipeline = family.load(base, dtype, parts=())
        self.notes: list[str] = []
        evict_oldest(folder, MAX_CACHE_BYTES)

    def latents(self, path: Path, sha256: str, size: tuple[int, int], mirror: bool) -> tuple[Tensor, Tensor]:
        """Mean and std of an image's latents, float32, CHW, for an image of `size` (height, width) in pixels."""

        def encode() -> dict[str, Tensor]:
            self._load_encoder(size)
            mean, std = self.family.encode_images(self.pipeline, read_pixels(path, size, mirror))
            return {"mean": mean[0].float(), "std": std[0].float()}

        encoded = self._cached(f"latents {sha256} {size} {mirror}", encode)
        return encoded["mean"], encoded["std"]

    def conditions(self, caption: str) -> Conditions:
        """Conditions of one prompt: named tensors with one row each, on the CPU."""

        def encode() -> Conditions:
            self.load(self.family.text_encoder_names)
            return self.family.encode_prompts(self.pipeline, [caption])

        return self._cached(f"prompt {caption}", encode)

    def load(self, parts: tuple[str, ...]) -> None:
        """Load these text encoders if they are missing, all on one device: a pipeline moves tokens to the device of the first one."""
        missing = [part for part in parts if self.pipeline.components[part] is None]
        if not missing:
            return
        loaded = self.family.load(self.base, self.dtype, parts=missing)
        modules = {part: loaded.components[part] for part in missing}
        device = self._device_for("text encoder", _weight_bytes(*modules.values()), "prompts were encoded")
        self.pipeline.register_modules(**{part: module.to(device) for part, module in modules.items()})

    def _load_encoder(self, size: tuple[int, int]) -> None:
        """Load the VAE if it is missing, in float32, since its rounding errors would stay in the cache; `size` is that of the image to encode."""
        if self.pipeline.components["vae"] is not None:
            return
        vae = self.family.load(self.base, torch.float32, parts=("vae",)).components["vae"]
        needed = encoding_bytes(self.family, self.base, size) if self.device.type == "cuda" else 0
        self.pipeline.register_modules(vae=vae.to(self._device_for("autoencoder", needed, "images were encoded")))

    @contextlib.contextmanager
    def text_encoders(self) -> Iterator[list[str]]:
        """Context in which the text encoders are in the pipeline, with notes about them; those that were not before are freed after it."""
        missing, known = [part for part in self.family.text_encoder_names if self.pipeline.components[part] is None], len(self.notes)
        try:
            self.load(self.family.text_encoder_names)
            yield self.notes[known:]
        finally:
            self.unload(tuple(missing))
            del self.notes[known:]
            platform.release_freed_memory()

    def load_decoder(self) -> None:
        """Load the VAE in the dtype of generation, as diffusers does."""
        vae = self.pipeline.components["vae"]
        if vae is not None and vae.dtype == self.dtype:
            return
        self.unload(("vae",))
        self.pipeline.register_modules(vae=self.family.load(self.base, self.dtype, parts=("vae",)).components["vae"].to(self.device))

    def unload(self, parts: tuple[str, ...]) -> None:
        """Remove these components from the pipeline and free their memory."""
        self.pipeline.register_modules(**dict.fromkeys(parts))
        if self.device.type == "cuda":
            torch.cuda.empty_cache()

    def _device_for(self, title: str, needed: int, effect: str) -> torch.device:
        """The run's device, or the CPU if `needed` bytes do not fit on the GPU; that adds a note."""
        if self.device.type != "cuda":
            return self.device
        free = memory.unused_bytes(self.device)
        if needed <= free:
            return self.device
        self.notes.append(f"The {title} needs {needed / 1e9:.1f} GB and the GPU has {free / 1e9:.1f} GB free, so {effect} on the CPU.")
        return torch.device("cpu")

    @torch.no_grad()
    def _cached(self, key: str, compute: Callable[[], Conditions]) -> Conditions:
        """The tensors stored under `key`, computed first if they are missing. The file's mtime is its last use."""
        path = self.folder / f"{hashlib.sha256(f'{self.identity} {key}'.encode()).hexdigest()}.safetensors"
        if path.exists():
            os.utime(path)
        else:
            write_atomically(path, serialise(compute(), {}))
        return load_file(path)


def _weight_bytes(*modules: torch.nn.Module) -> int:
    return sum(weight.nbytes for module in modules for weight in module.parameters())


def base_identity(base: BaseFolder, family: Family, folder: Path) -> str:
    """Cache key of a base: everything that decides what its encoders return, with the versions of the libraries that compute it.

    A Hub model is known by its commit. Local files may change, so they are known by their SHA-256: the weights of VAE and text encoders, and all
    config and tokenizer files beside them. Hashes of large weights are kept in `folder`, since the folder of a base is the user's.
    """
    encoders = ("vae", *family.text_encoder_names)
    single = base.checkpoint if base.checkpoint and set(encoders) <= set(family.checkpoint_parts) else None
    facts = [f"{library} {packages.installed(library)}" for library in LIBRARIES]
    if single:
        facts.append(hashes.sha256(single, folder))
    if base.revision:
        return " ".join([f"{base.reference or base.id}@{base.revision}", *facts])
    files = [base.path / "model_index.json"]
    for part in family.components:
        if part not in (family.denoiser_name, "scheduler"):
            files += [file for file in (base.path / part).rglob("*") if file.suffix in SETTINGS_SUFFIXES]
    if not single:
        files += [file for part in encoders for file in (base.path / part).glob("*.safetensors")]
    facts += [f"{file.relative_to(base.path).as_posix()} {hashes.sha256(file, folder)}" for file in sorted(files)]
    return hashlib.sha256("\n".join(facts).encode()).hexdigest()


def evict_oldest(folder: Path, largest: int) -> None:
    """Delete the least recently used files of a cache until it has at most `largest` bytes."""
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
        storage.discard(path)
        total -= size


def read_pixels(path: Path, size: tuple[int, int], mirror: bool) -> Tensor:
    """An image scaled to cover `size` (height, width) and cropped to it around the centre: 1CHW in -1..1."""
    pixels_HWC = _read_cropped(path, size, mirror, "RGB")
    return torch.from_numpy(pixels_HWC / 127.5 - 1).permute(2, 0, 1)[None].contiguous()


def read_mask(path: Path, size: tuple[int, int], latent_size: tuple[int, int], mirror: bool, floor: float) -> Tensor:
    """Loss weight of each latent: 1HW in floor..1, the mean of the mask's pixels over it."""
    mask_1HW = torch.from_numpy(_read_cropped(path, size, mirror, "L") / 255.0)[None]
    return floor + (1 - floor) * torch.nn.functional.adaptive_avg_pool2d(mask_1HW, latent_size)


def _read_cropped(path: Path, size: tuple[int, int], mirror: bool, mode: str) -> numpy.ndarray:
    """Pixels of a PNG in the PIL mode `mode`, scaled to cover `size` (height, width) and cropped to it: float32 in 0..255."""
    height, width = size
    with Image.open(path, formats=["PNG"]) as opened:
        image = opened.convert(mode)
    scale = max(height / image.height, width / image.width)
    if (image.width, image.height) != (width, height):
        image = image.resize((max(width, round(image.width * scale)), max(height, round(image.height * scale))), Image.Resampling.LANCZOS)
    left, top = (image.width - width) // 2, (image.height - height) // 2
    pixels = numpy.asarray(image.crop((left, top, left + width, top + height)), dtype=numpy.float32)
    return pixels[:, ::-1].copy() if mirror else pixels.copy()
