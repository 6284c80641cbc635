"""Batches of a run: examples in their order, augmentation and all random numbers of each step.

Shapes: B batch, C channels, H and W height and width (of pixels or latents).
"""

from dataclasses import dataclass

import numpy
import torch
from torch import Tensor

from studio.config.dataset import DatasetConfig
from studio.config.runtime import ENGINE
from studio.config.training import TrainingConfig
from studio.families import padding
from studio.training.distributed import SINGLE_PROCESS, Shard
from studio.training.encoding_cache import Conditions, Encodings
from studio.training.examples import Example
from studio.training.order import EpochOrder, FairOrder, Order
from studio.training.rng import Purpose, make_rng


@dataclass(frozen=True)
class Batch:
    """Inputs of one forward pass, on the CPU. `uniform_B`: float64 in 0..1, the quantile of each example's noise level."""

    latents_BCHW: Tensor
    noise_BCHW: Tensor
    uniform_B: Tensor
    captions: list[str]
    mask_B1HW: Tensor | None = None


class BatchLoader:
    """Batches of any step, without state: random access by step instead of an iterator.

    `shard`: the part of this process. `stream` separates the random numbers of two sets of examples (dataset 0, prior images 1). `engine` is that
    of the run, which decides the order.
    """

    def __init__(
        self,
        examples: list[Example],
        config: DatasetConfig,
        training: TrainingConfig,
        shard: Shard = SINGLE_PROCESS,
        stream: int = 0,
        engine: int = ENGINE,
    ):
        self.examples, self.config, self.shard, self.stream, self.seed = examples, config, shard, stream, training.seed
        self.batch_size, self.accumulation, self.noise_offset = training.train_batch_size, training.gradient_accumulation_steps, training.noise_offset
        # With a fair order, repeats would only make epochs longer.
        self.repeats = 1 if engine >= 2 else config.repeats
        self._engine = engine
        self._order: Order | None = None

    def indices(self, step: int, part: int = 0) -> list[int]:
        """Indices of the examples in global batch `part` (of the accumulated ones) of step `step`, both from 0: one bucket, always full."""
        if self._order is None:
            buckets = [example.bucket for example in self.examples for _ in range(self.repeats)]
            kind = FairOrder if self._engine >= 2 else EpochOrder
            self._order = kind(buckets, self.batch_size * self.shard.processes, self.seed, self.stream)
        return [index // self.repeats for index in self._order.batch(step * self.accumulation + part)]

    def batches(self, step: int) -> list[Batch]:
        """This process's batches of one step, one per accumulation. Random numbers depend only on (seed, step, index in the global batch)."""
        return [self._batch(step, part) for part in range(self.accumulation)]

    def _batch(self, step: int, part: int) -> Batch:
        first = self.shard.rank * self.batch_size
        chosen = self.indices(step, part)[first : first + self.batch_size]
        offset = (part * self.shard.processes + self.shard.rank) * self.batch_size
        return collate([self._augmented(self.examples[index], step, offset + row) for row, index in enumerate(chosen)])

    def _augmented(self, example: Example, step: int, index: int) -> Batch:
        """One example as a batch of one: mirrored at random, caption shuffled or dropped, latents sampled from their posterior, with noise."""
        if example.mirrored and self._uniform(Purpose.FLIP, step, index) < 0.5:
            example = example.mirrored
        latents_CHW = example.mean_CHW + example.std_CHW * self._normal(Purpose.POSTERIOR, step, index, example.mean_CHW.shape)
        noise_CHW = self._normal(Purpose.NOISE, step, index, example.mean_CHW.shape)
        if self.noise_offset:
            noise_CHW = noise_CHW + self.noise_offset * self._normal(Purpose.NOISE_OFFSET, step, index, (len(noise_CHW), 1, 1))
        dropped = self._uniform(Purpose.CAPTION_DROPOUT, step, index) < self.config.caption_dropout
        uniform_1 = torch.tensor([self._uniform(Purpose.TIMESTEP, step, index)], dtype=torch.float64)
        mask = None if example.mask_1HW is None else example.mask_1HW[None]
        return Batch(latents_CHW[None], noise_CHW[None], uniform_1, ["" if dropped else self._shuffled(example.caption, step, index)], mask)

    def _shuffled(self, caption: str, step: int, index: int) -> str:
        """The caption with its comma-separated parts shuffled, except the first `caption_keep`."""
        if not self.config.caption_shuffle:
            return caption
        parts = [part.strip() for part in caption.split(",")]
        kept, others = parts[: self.config.caption_keep], parts[self.config.caption_keep :]
        order = make_rng(Purpose.CAPTION_SHUFFLE, self.seed, step, self._stream_index(index)).permutation(len(others))
        return ", ".join([*kept, *(others[i] for i in order)])

    def _stream_index(self, index: int) -> int:
        """Index with the stream in its upper 32 bits."""
        return index + (self.stream << 32)

    def _uniform(self, purpose: Purpose, step: int, index: int) -> float:
        return make_rng(purpose, self.seed, step, self._stream_index(index)).random()

    def _normal(self, purpose: Purpose, step: int, index: int, shape: torch.Size | tuple[int, ...]) -> Tensor:
        return torch.from_numpy(make_rng(purpose, self.seed, step, self._stream_index(index)).standard_normal(tuple(shape), dtype=numpy.float32))


def collate(rows: list[Batch]) -> Batch:
    """Concatenate batches of one shape. If some have a mask, those without get a mask of ones."""
    masks = None
    if any(row.mask_B1HW is not None for row in rows):
        ones = torch.ones(1, 1, *rows[0].latents_BCHW.shape[2:])
        masks = torch.cat([ones if row.mask_B1HW is None else row.mask_B1HW for row in rows])
    return Batch(
        torch.cat([row.latents_BCHW for row in rows]),
        torch.cat([row.noise_BCHW for row in rows]),
        torch.cat([row.uniform_B for row in rows]),
        [caption for row in rows for caption in row.captions],
        masks,
    )


class ConditionCache:
    """Conditions of captions in memory: encoded before training where captions are fixed, otherwise when they first occur (shuffled ones).

    The empty caption of caption dropout gets the family's unconditional input. `trim`: prompts are padded no further than a batch needs, where
    the family masks padding (docs/decisions/082-prompts-without-padding.md); otherwise all are at the family's limit.
    """

    MAX_ENTRIES = 4096
    LENGTH_STEP = 16
    """Lengths of masked prompts are multiples of this: kernels copy a mask whose rows are not aligned to 8 numbers."""

    def __init__(self, encodings: Encodings, device: torch.device, trim: bool):
        self.encodings, self.device = encodings, device
        self.padding_mask = encodings.family.padding_mask if trim else None
        self.limit = self.length = 0
        """Tokens of a prompt with all its padding, and of the longest prompt of the run's set; 0 before they are known."""
        self._entries: dict[str, Conditions] = {}

    def encode(self, captions: list[str]) -> None:
        """Add these captions, the run's whole set, from the cache on disk, which encodes missing ones."""
        for caption in captions:
            self._entries[caption] = self._prepare(caption, self.encodings.conditions(caption))
        if self.padding_mask:
            counts = {caption: self._entries[caption]["prompt_embeds"].shape[1] for caption in captions}
            longest = max(counts.values())
            # The empty caption is rare: where all others are equally long, only it is padded.
            differ = len({count for caption, count in counts.items() if caption}) > 1
            self.length = min(-(-longest // self.LENGTH_STEP) * self.LENGTH_STEP, self.limit) if differ else longest

    @torch.no_grad()
    def __call__(self, captions: list[str], one_length: bool = False) -> Conditions:
        """Conditions by name, one row per caption, on the CPU.

        Prompts of one length are not padded and have no mask. `one_length`: all batches have the length of the set, where every shape costs
        a compilation or a capture.
        """
        for caption in captions:
            if caption not in self._entries:
                while len(self._entries) >= self.MAX_ENTRIES:
                    self._entries.pop(next(iter(self._entries)))
                encoded = self.encodings.family.encode_prompts(self.encodings.pipeline, [caption])
                # A batch may also have captions from the cache on disk, and thousands of shuffled ones would fill a GPU.
                self._entries[caption] = self._prepare(caption, {name: rows.cpu() for name, rows in encoded.items()})
        rows = [self._entries[caption] for caption in captions]
        if self.padding_mask is None:
            return {name: torch.cat([row[name] for row in rows]) for name in rows[0]}
        counts = [row["prompt_embeds"].shape[1] for row in rows]
        return padding.pad_together(rows, self.padding_mask, self._batch_length(counts, one_length))

    def _batch_length(self, counts: list[int], one_length: bool) -> int:
        """Tokens of a batch of prompts of these lengths."""
        if len(set(counts)) == 1 and not one_length:
            return counts[0]
        # A shuffled caption may be longer than all others. The limit is one more shape; the next multiple would be several.
        return self.length if max(counts) <= self.length else self.limit

    def _prepare(self, caption: str, conditions: Conditions) -> Conditions:
        """What is kept of an encoded caption."""
        conditions = conditions if caption else self.encodings.family.unconditional(self.encodings.pipeline, conditions)
        if self.padding_mask is None:
            return conditions
        self.limit = conditions["prompt_embeds"].shape[1]
        return padding.without_padding(conditions, self.padding_mask)
