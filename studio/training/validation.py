"""Validation loss: the loss on images that are not trained, always with the same noise, so that it changes only with the weights."""

import numpy
import torch

from studio.config.validation import ValidationConfig
from studio.training.batches import Batch
from studio.training.examples import Example
from studio.training.rng import Purpose, make_rng
from studio.training.step import TrainingStep

NOISE_QUANTILES = (0.125, 0.375, 0.625, 0.875)
"""Quantiles of the noise levels that are evaluated, the middle of each quarter: their mean varies less than that of random ones."""


class Validation:
    """Evaluates the validation images with the trained model of `training_step`."""

    def __init__(self, examples: list[Example], config: ValidationConfig, seed: int, training_step: TrainingStep):
        self.examples, self.config, self.seed, self.training_step = examples, config, seed, training_step

    @torch.no_grad()
    def loss(self) -> float:
        """Mean over all validation images and all quantiles, without dropout, with the weights of the adapter file: the EMA if there is one."""
        step = self.training_step
        batches = [self._batch(index, quantile) for index in range(len(self.examples)) for quantile in NOISE_QUANTILES]
        step.train_mode(False)
        # Compiled blocks would be compiled once more for these batches.
        with torch.compiler.set_stance("force_eager"), step.parameters.saved_weights_in_model():
            losses = [step.losses(step.inputs(batch)).item() for batch in batches]
        step.train_mode()
        return sum(losses) / len(losses)

    def _batch(self, index: int, quantile: float) -> Batch:
        """One image as a batch of one: the mean of its latents, with noise that depends on the seed and `index` only."""
        example = self.examples[index]
        noise = make_rng(Purpose.VALIDATION, self.seed, 0, index).standard_normal(tuple(example.mean_CHW.shape), dtype=numpy.float32)
        mask = None if example.mask_1HW is None else example.mask_1HW[None]
        uniform_1 = torch.tensor([quantile], dtype=torch.float64)
        return Batch(example.mean_CHW[None], torch.from_numpy(noise)[None], uniform_1, [example.caption], mask)
