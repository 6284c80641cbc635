"""A training step without files: a random denoiser on the device, random latents and random conditions."""

from collections.abc import Callable
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from studio.benchmark.cases.bases import random_pipeline
from studio.benchmark.cases.case import Machine
from studio.config import TrainConfig
from studio.devices import runtime
from studio.families.base import Family
from studio.training.batches import Batch, ConditionCache
from studio.training.distributed import ProcessGroup
from studio.training.encoding_cache import Conditions
from studio.training.lora import add_lora
from studio.training.parameters import TrainedParameters
from studio.training.step import TrainingStep

if TYPE_CHECKING:
    from diffusers import DiffusionPipeline, ModelMixin

RATE = 1e-3


class RandomConditions(ConditionCache):
    """Random conditions of the family's shapes, the same ones for every caption."""

    def __init__(self, conditions: Conditions):
        self.conditions = conditions

    def __call__(self, captions: list[str], one_length: bool = False) -> Conditions:
        return {name: torch.cat([rows] * len(captions)) for name, rows in self.conditions.items()}


class Bench:
    """A random denoiser with a LoRA, and new training steps on it that all begin with the same weights and batches."""

    def __init__(self, machine: Machine, family: Family, config: TrainConfig, steps: int):
        self.machine, self.family, self.config = machine, family, config
        self.device = torch.device(machine.device)
        runtime.apply(config.runtime)
        self.pipeline: DiffusionPipeline = random_pipeline(machine, family)
        self.denoiser: ModelMixin = self.pipeline.components[family.denoiser_name]
        self.working = add_lora(self.pipeline, config, family, runtime.torch_dtype(config.runtime.filled_dtype))
        self.initial = {name: weight.detach().cpu().clone() for name, weight in self.working.items()}
        side = config.dataset.resolution
        shapes = family.input_shapes(self.denoiser.config, (side, side))
        generator = torch.Generator().manual_seed(0)
        self.latents_CHW = shapes.pop("latents")
        self.prepared = [self.batches(step) for step in range(steps)]
        """Made beforehand: drawing random numbers would count as training."""
        self.conditions = RandomConditions(
            {
                name: torch.ones(1, *shape, dtype=torch.bool) if name.endswith("_mask") else torch.randn(1, *shape, generator=generator)
                for name, shape in shapes.items()
            }
        )

    def new_step(self) -> TrainingStep:
        """A training step with the initial weights of the LoRA and a new optimizer."""
        with torch.no_grad():
            for name, weight in self.working.items():
                weight.copy_(self.initial[name])
                weight.grad = None
        parameters = TrainedParameters(self.working, self.config.training, self.config.runtime.filled_engine)
        objective = self.family.objective(self.pipeline, self.device)
        step = TrainingStep(self.config, self.family, self.pipeline, objective, parameters, self.conditions, ProcessGroup())
        step.train_mode()
        return step

    def batches(self, step: int) -> list[tuple[Batch, float]]:
        generator = torch.Generator().manual_seed(step)
        latents, noise = (torch.randn(1, *self.latents_CHW, generator=generator) for _ in range(2))
        return [(Batch(latents, noise, torch.rand(1, generator=generator, dtype=torch.float64), ["a"]), 1.0)]

    def run(self, training_step: TrainingStep, first: int, count: int, execution: str) -> list[Tensor]:
        """Losses of `count` steps, on the device."""
        return [training_step(step, batches, RATE, execution)[0] for step, batches in zip(range(first, first + count), self.prepared[first:])]

    def synchronise(self) -> None:
        if self.device.type == "cuda":
            torch.cuda.synchronize()


def peaks(machine: Machine) -> tuple[Callable[[], None], Callable[[], tuple[int, int]]]:
    """(reset the peaks, read peak allocated and reserved bytes). On a CPU the process's peak RAM stands in for both, and cannot be reset."""
    if machine.rehearsal:
        from studio.core import platform

        return (lambda: None), (lambda: (platform.peak_memory(), platform.peak_memory()))
    return torch.cuda.reset_peak_memory_stats, lambda: (torch.cuda.max_memory_allocated(), torch.cuda.max_memory_reserved())
