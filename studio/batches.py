"""Pictures and captions of a run as batches: buckets of one shape, latents and prompt embeddings computed once and kept on disk.

Which examples make up a batch is a function of (seed, step); nothing about the order is ever saved.
Shapes: B batch, C channels, H and W height and width (of pixels or latents).
"""

import hashlib
from collections import defaultdict
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy
import torch
from diffusers import DiffusionPipeline
from diffusers.training_utils import find_nearest_bucket, generate_aspect_ratio_buckets
from PIL import Image
from safetensors.torch import load_file
from torch import Tensor

from studio.adapters import serialise
from studio.chance import Purpose, draw
from studio.config.dataset import DatasetConfig
from studio.families.base import BaseFolder, Family
from studio.workspace import write_atomically

Conditions = dict[str, Tensor]


@dataclass(frozen=True)
class Example:
    """One captioned picture, ready to train: the latents' distribution, as it is and mirrored, and its prompt's embedding."""

    bucket: tuple[int, int]
    mean_CHW: Tensor
    std_CHW: Tensor
    mirrored: tuple[Tensor, Tensor] | None
    conditions: Conditions


@dataclass(frozen=True)
class Batch:
    latents_BCHW: Tensor
    noise_BCHW: Tensor
    uniform_B: Tensor
    conditions: Conditions


class Examples:
    """All examples of a run, and the batch of any step."""

    def __init__(self, examples: list[Example], no_caption: Conditions, batch_size: int, seed: int, caption_dropout: float):
        self.examples = examples
        self.no_caption = no_caption
        self.batch_size = batch_size
        self.seed = seed
        self.caption_dropout = caption_dropout
        self._epoch: tuple[int, list[list[int]]] | None = None

    def indices(self, step: int) -> list[int]:
        """Which examples step `step` (from 0) sees; all of one bucket, and always a full batch."""
        if self._epoch is None:
            self._epoch = (0, batch_order([example.bucket for example in self.examples], self.batch_size, self.seed, 0))
        epoch, position = divmod(step, len(self._epoch[1]))
        if self._epoch[0] != epoch:
            self._epoch = (epoch, batch_order([example.bucket for example in self.examples], self.batch_size, self.seed, epoch))
        return self._epoch[1][position]

    def batch(self, step: int) -> Batch:
        """The tensors of one step. Every random number depends on (seed, step, index in the batch) alone."""
        latents, noise, uniform, conditions = [], [], [], []
        for index, chosen in enumerate(self.indices(step)):
            example = self.examples[chosen]
            mean, std = example.mean_CHW, example.std_CHW
            if example.mirrored and self._uniform(Purpose.FLIP, step, index) < 0.5:
                mean, std = example.mirrored
            hidden = self._uniform(Purpose.CAPTION_DROPOUT, step, index) < self.caption_dropout
            latents.append(mean + std * self._normal(Purpose.POSTERIOR, step, index, mean.shape))
            noise.append(self._normal(Purpose.NOISE, step, index, mean.shape))
            uniform.append(self._uniform(Purpose.TIMESTEP, step, index))
            conditions.append(self.no_caption if hidden else example.conditions)
        return Batch(
            torch.stack(latents),
            torch.stack(noise),
            torch.tensor(uniform, dtype=torch.float64),
            {name: torch.cat([row[name] for row in conditions]) for name in self.no_caption},
        )

    def _uniform(self, purpose: Purpose, step: int, index: int) -> float:
        return draw(purpose, self.seed, step, index).random()

    def _normal(self, purpose: Purpose, step: int, index: int, shape: torch.Size) -> Tensor:
        return torch.from_numpy(draw(purpose, self.seed, step, index).standard_normal(tuple(shape), dtype=numpy.float32))


def batch_order(buckets: list[tuple[int, int]], batch_size: int, seed: int, epoch: int) -> list[list[int]]:
    """The batches of one epoch: each picture at least once, shapes never mixed. A short last batch is filled from the bucket's own pictures."""
    chance = draw(Purpose.ORDER, seed, epoch)
    members = defaultdict(list)
    for index, bucket in enumerate(buckets):
        members[bucket].append(index)
    batches = []
    for bucket in sorted(members):
        order = chance.permutation(members[bucket]).tolist()
        missing = -len(order) % batch_size
        order += [order[i % len(order)] for i in chance.permutation(max(missing, len(order)))[:missing]]
        batches += [order[start : start + batch_size] for start in range(0, len(order), batch_size)]
    return [batches[i] for i in chance.permutation(len(batches))]


def load_examples(
    pictures: list[dict],
    folder: Path,
    config: DatasetConfig,
    cache: "Cache",
    stopping: Callable[[], bool],
) -> tuple[list[Example], Conditions] | None:
    """Every picture of a run's snapshot as an Example, and the conditions of an empty caption. None when `stopping()`, asked before each."""
    buckets = generate_aspect_ratio_buckets(config.resolution, divisibility=cache.family.bucket_step(cache.base))
    examples = []
    for picture in pictures:
        if stopping():
            return None
        height, width = buckets[find_nearest_bucket(picture["height"], picture["width"], buckets)]
        path, sha256 = folder / picture["file"], picture["sha256"]
        mean, std = cache.latents(path, sha256, (height, width), mirror=False)
        mirrored = cache.latents(path, sha256, (height, width), mirror=True) if config.flip else None
        examples.append(Example((height, width), mean, std, mirrored, cache.conditions(picture["caption"])))
    return examples, cache.conditions("")


class Cache:
    """Latents and embeddings by content: what was computed once for these bytes by this base is read back, bit for bit."""

    def __init__(self, folder: Path, base: BaseFolder, family: Family, pipeline: DiffusionPipeline):
        self.folder, self.base, self.family, self.pipeline = folder, base, family, pipeline
        self.identity = f"{base_identity(base, family)} {pipeline.dtype}"
        folder.mkdir(exist_ok=True)

    def latents(self, path: Path, sha256: str, size: tuple[int, int], mirror: bool) -> tuple[Tensor, Tensor]:
        """Mean and std of a picture's latents, float32, CHW."""

        def encode() -> dict[str, Tensor]:
            mean, std = self.family.encode_images(self.pipeline, read_pixels(path, size, mirror))
            return {"mean": mean[0].float(), "std": std[0].float()}

        kept = self._kept(f"latents {sha256} {size} {mirror}", encode)
        return kept["mean"], kept["std"]

    def conditions(self, caption: str) -> Conditions:
        return self._kept(f"prompt {caption}", lambda: self.family.encode_prompts(self.pipeline, [caption]))

    @torch.no_grad()
    def _kept(self, what: str, compute) -> dict[str, Tensor]:
        path = self.folder / f"{hashlib.sha256(f'{self.identity} {what}'.encode()).hexdigest()}.safetensors"
        if not path.exists():
            write_atomically(path, serialise(compute(), {}))
        return load_file(path)


def base_identity(base: BaseFolder, family: Family) -> str:
    """The commit of a Hub model; for a folder, which anyone may change, a hash of the weights that encode pictures and words."""
    if base.revision:
        return f"{base.title}@{base.revision}"
    digest = hashlib.sha256()
    for part in ("vae", *family.text_encoder_names):
        for file in sorted((base.path / part).glob("*.safetensors")):
            with open(file, "rb") as opened:
                digest.update(hashlib.file_digest(opened, "sha256").digest())
    return digest.hexdigest()


def read_pixels(path: Path, size: tuple[int, int], mirror: bool) -> Tensor:
    """A picture scaled to cover (height, width), cut to it around the middle: 1CHW in -1..1."""
    height, width = size
    with Image.open(path, formats=["PNG"]) as opened:
        picture = opened.convert("RGB")
    scale = max(height / picture.height, width / picture.width)
    if (picture.width, picture.height) != (width, height):
        picture = picture.resize((max(width, round(picture.width * scale)), max(height, round(picture.height * scale))), Image.Resampling.LANCZOS)
    left, top = (picture.width - width) // 2, (picture.height - height) // 2
    pixels_HWC = numpy.asarray(picture.crop((left, top, left + width, top + height)), dtype=numpy.float32)
    if mirror:
        pixels_HWC = pixels_HWC[:, ::-1].copy()
    return torch.from_numpy(pixels_HWC / 127.5 - 1).permute(2, 0, 1)[None].contiguous()
