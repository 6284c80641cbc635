"""What the model makes of pictures that teach nothing: always the same noise, so that only the learning changes the answer."""

import numpy
import torch

from studio.config.validation import ValidationConfig
from studio.training.batches import Batch, Example
from studio.training.rng import Purpose, draw
from studio.training.step import Update

LEVELS = (0.125, 0.375, 0.625, 0.875)
"""Quantiles of the noise levels to measure at, the middle of each quarter: their mean varies less than that of random ones."""


class Validation:
    def __init__(self, held: list[Example], config: ValidationConfig, seed: int, update: Update):
        self.held, self.config, self.seed, self.update = held, config, seed, update

    @torch.no_grad()
    def loss(self) -> float:
        """Mean over all pictures held back and all levels, without dropout."""
        self.update.denoiser.eval()
        found = [self.update.losses(self.update.inputs(self._batch(index, level))).item() for index in range(len(self.held)) for level in LEVELS]
        self.update.denoiser.train()
        return sum(found) / len(found)

    def _batch(self, index: int, level: float) -> Batch:
        example = self.held[index]
        noise = draw(Purpose.VALIDATION, self.seed, 0, index).standard_normal(tuple(example.mean_CHW.shape), dtype=numpy.float32)
        mask = None if example.mask_1HW is None else example.mask_1HW[None]
        level_1 = torch.tensor([level], dtype=torch.float64)
        return Batch(example.mean_CHW[None], torch.from_numpy(noise)[None], level_1, [example.caption], mask)
