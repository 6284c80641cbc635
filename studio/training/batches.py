"""Pictures and captions of a run as batches: buckets of one shape, and for every step what it sees and all its chance.

Which examples make up a batch is a function of (seed, step); nothing about the order is ever saved.
Shapes: B batch, C channels, H and W height and width (of pixels or latents).
"""

from collections import defaultdict
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

import numpy
import torch
from diffusers.training_utils import find_nearest_bucket, generate_aspect_ratio_buckets
from torch import Tensor

from studio.config.dataset import DatasetConfig
from studio.config.training import TrainingConfig
from studio.training.encoding_cache import Conditions, Encodings, read_mask
from studio.training.rng import Purpose, draw


@dataclass(frozen=True)
class Example:
    """One captioned picture, ready to train: the latents' distribution and its mask, as they are and mirrored."""

    bucket: tuple[int, int]
    mean_CHW: Tensor
    std_CHW: Tensor
    caption: str
    mask_1HW: Tensor | None = None
    mirrored: "Example | None" = None


@dataclass(frozen=True)
class Batch:
    latents_BCHW: Tensor
    noise_BCHW: Tensor
    uniform_B: Tensor
    captions: list[str]
    mask_B1HW: Tensor | None = None


@dataclass(frozen=True)
class Share:
    """What one of several processes takes of every global batch."""

    rank: int = 0
    processes: int = 1


ALONE = Share()


class Examples:
    """All examples of a run, and the batches of any step.

    `stream` keeps the chance of one set of examples (one's own, the regularisation pictures) apart from another's.
    """

    def __init__(self, examples: list[Example], config: DatasetConfig, training: TrainingConfig, share: Share = ALONE, stream: int = 0):
        self.examples, self.config, self.share, self.stream, self.seed = examples, config, share, stream, training.seed
        self.batch_size, self.accumulation, self.noise_offset = training.train_batch_size, training.gradient_accumulation_steps, training.noise_offset
        self.buckets = [example.bucket for example in examples for _ in range(config.repeats)]
        self._epoch: tuple[int, list[list[int]]] | None = None

    def indices(self, step: int, part: int = 0) -> list[int]:
        """Which examples the global batch `part` of step `step` (from 0) holds; all of one bucket, and always full."""
        size = self.batch_size * self.share.processes
        if self._epoch is None:
            self._epoch = (0, batch_order(self.buckets, size, self.seed, 0, self.stream))
        epoch, position = divmod(step * self.accumulation + part, len(self._epoch[1]))
        if self._epoch[0] != epoch:
            self._epoch = (epoch, batch_order(self.buckets, size, self.seed, epoch, self.stream))
        return [index // self.config.repeats for index in self._epoch[1][position]]

    def batches(self, step: int) -> list[Batch]:
        """What this process sees in one step. Every random number depends on (seed, step, index in the global batch) alone."""
        return [self._batch(step, part) for part in range(self.accumulation)]

    def _batch(self, step: int, part: int) -> Batch:
        first = self.share.rank * self.batch_size
        chosen = self.indices(step, part)[first : first + self.batch_size]
        offset = (part * self.share.processes + self.share.rank) * self.batch_size
        return collate([self._varied(self.examples[which], step, offset + place) for place, which in enumerate(chosen)])

    def _varied(self, example: Example, step: int, index: int) -> Batch:
        """One example as step `step` sees it: mirrored or not, with its words shuffled or hidden, one sample of its latents, its noise."""
        if example.mirrored and self._uniform(Purpose.FLIP, step, index) < 0.5:
            example = example.mirrored
        latents_CHW = example.mean_CHW + example.std_CHW * self._normal(Purpose.POSTERIOR, step, index, example.mean_CHW.shape)
        noise_CHW = self._normal(Purpose.NOISE, step, index, example.mean_CHW.shape)
        if self.noise_offset:
            noise_CHW = noise_CHW + self.noise_offset * self._normal(Purpose.NOISE_OFFSET, step, index, (len(noise_CHW), 1, 1))
        hidden = self._uniform(Purpose.CAPTION_DROPOUT, step, index) < self.config.caption_dropout
        uniform_1 = torch.tensor([self._uniform(Purpose.TIMESTEP, step, index)], dtype=torch.float64)
        mask = None if example.mask_1HW is None else example.mask_1HW[None]
        return Batch(latents_CHW[None], noise_CHW[None], uniform_1, ["" if hidden else self._worded(example.caption, step, index)], mask)

    def _worded(self, caption: str, step: int, index: int) -> str:
        """The parts of a caption in a new order, after those that stay in front."""
        if not self.config.caption_shuffle:
            return caption
        parts = [part.strip() for part in caption.split(",")]
        front, rest = parts[: self.config.caption_keep], parts[self.config.caption_keep :]
        order = draw(Purpose.CAPTION_SHUFFLE, self.seed, step, self._own(index)).permutation(len(rest))
        return ", ".join([*front, *(rest[i] for i in order)])

    def _own(self, index: int) -> int:
        return index + (self.stream << 32)

    def _uniform(self, purpose: Purpose, step: int, index: int) -> float:
        return draw(purpose, self.seed, step, self._own(index)).random()

    def _normal(self, purpose: Purpose, step: int, index: int, shape: torch.Size | tuple[int, ...]) -> Tensor:
        return torch.from_numpy(draw(purpose, self.seed, step, self._own(index)).standard_normal(tuple(shape), dtype=numpy.float32))


def collate(rows: list[Batch]) -> Batch:
    """Rows of one shape as one batch; where some have a mask, those without count everywhere."""
    masks = None
    if any(row.mask_B1HW is not None for row in rows):
        everywhere = torch.ones(1, 1, *rows[0].latents_BCHW.shape[2:])
        masks = torch.cat([everywhere if row.mask_B1HW is None else row.mask_B1HW for row in rows])
    return Batch(
        torch.cat([row.latents_BCHW for row in rows]),
        torch.cat([row.noise_BCHW for row in rows]),
        torch.cat([row.uniform_B for row in rows]),
        [caption for row in rows for caption in row.captions],
        masks,
    )


def batch_order(buckets: list[tuple[int, int]], batch_size: int, seed: int, epoch: int, stream: int = 0) -> list[list[int]]:
    """The batches of one epoch: each picture at least once, shapes never mixed. A short last batch is filled from the bucket's own pictures."""
    chance = draw(Purpose.ORDER, seed, epoch, stream << 32)
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
    pictures: list[dict], folder: Path, config: DatasetConfig, encodings: Encodings, stopping: Callable[[], bool], tell: Callable[[int, int], None]
) -> list[Example] | None:
    """Every picture of a listing as an Example. None when `stopping()`, asked before each; `tell(done, total)` after each."""
    buckets = generate_aspect_ratio_buckets(config.resolution, divisibility=encodings.family.bucket_step(encodings.base))
    examples = []
    for picture in pictures:
        if stopping():
            return None
        size = buckets[find_nearest_bucket(picture["height"], picture["width"], buckets)]
        example = _example(picture, folder, size, config, encodings, mirror=False)
        if config.flip:
            example = replace(example, mirrored=_example(picture, folder, size, config, encodings, mirror=True))
        examples.append(example)
        tell(len(examples), len(pictures))
    return examples


def _example(picture: dict, folder: Path, size: tuple[int, int], config: DatasetConfig, encodings: Encodings, mirror: bool) -> Example:
    mean_CHW, std_CHW = encodings.latents(folder / picture["file"], picture["sha256"], size, mirror)
    mask = None
    if config.masks and picture.get("mask"):
        mask = read_mask(folder / picture["mask"], size, tuple(mean_CHW.shape[1:]), mirror, config.mask_floor)
    return Example(size, mean_CHW, std_CHW, picture["caption"], mask)


def held_back(pictures: list[dict], count: int, seed: int) -> tuple[list[dict], list[dict]]:
    """(those that teach, those that are only asked about): chosen by the seed, at least one stays to teach."""
    order = draw(Purpose.HOLD_BACK, seed, 0).permutation(len(pictures)).tolist()
    chosen = set(order[: min(count, len(pictures) - 1)])
    return [p for i, p in enumerate(pictures) if i not in chosen], [p for i, p in enumerate(pictures) if i in chosen]


class Words:
    """The conditions of captions: kept ones from the cache, shuffled ones encoded as they come, the newest remembered."""

    REMEMBERED = 4096

    def __init__(self, encodings: Encodings, device: torch.device):
        self.encodings, self.device = encodings, device
        self._known: dict[str, Conditions] = {}

    def learn(self, captions: list[str]) -> None:
        for caption in captions:
            self._known[caption] = self._hidden_or(caption, self.encodings.conditions(caption))

    @torch.no_grad()
    def __call__(self, captions: list[str]) -> Conditions:
        """Conditions by name, one row a caption, on the processor or wherever the text encoder is."""
        for caption in captions:
            if caption not in self._known:
                while len(self._known) >= self.REMEMBERED:
                    self._known.pop(next(iter(self._known)))
                self._known[caption] = self._hidden_or(caption, self.encodings.family.encode_prompts(self.encodings.pipeline, [caption]))
        rows = [self._known[caption] for caption in captions]
        return {name: torch.cat([row[name] for row in rows]) for name in rows[0]}

    def _hidden_or(self, caption: str, conditions: Conditions) -> Conditions:
        return conditions if caption else self.encodings.family.unconditional(self.encodings.pipeline, conditions)
