"""One step of learning: batches in, a loss and a gradient norm out, both left where they were computed.

Three ways to run it: eager; with the denoiser's repeated blocks compiled; or the whole step, forward to optimizer, recorded once for
each shape as a CUDA graph and replayed with new inputs. A U-Net of an hour's worth of kernels waits for Python most of the time; a
replay does not.
"""

from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn

from studio.config import TrainConfig
from studio.devices import runtime
from studio.families.base import Family
from studio.families.objectives import FlowMatching, Objective
from studio.training.batches import Batch, Words
from studio.training.distributed import Team
from studio.training.encoding_cache import Conditions
from studio.training.lora import targets
from studio.training.parameters import Learner
from studio.training.rng import Purpose, draw

if TYPE_CHECKING:
    from diffusers import DiffusionPipeline

WARM_UP = 3
"""Steps before a recording, as PyTorch asks for: libraries choose their kernels in them."""


@dataclass
class Inputs:
    """What one forward reads, on the device."""

    latents_BCHW: Tensor
    noise_BCHW: Tensor
    t_B: Tensor
    mask_B1HW: Tensor | None
    conditions: Conditions

    def tensors(self) -> list[Tensor]:
        mask = [] if self.mask_B1HW is None else [self.mask_B1HW]
        return [self.latents_BCHW, self.noise_BCHW, self.t_B, *mask, *(self.conditions[name] for name in sorted(self.conditions))]

    def shapes(self) -> tuple:
        return tuple(tuple(tensor.shape) for tensor in self.tensors())


@dataclass
class Recording:
    graph: "torch.cuda.CUDAGraph"
    inputs: Inputs
    loss: Tensor
    norm: Tensor


class Update:
    def __init__(
        self,
        config: TrainConfig,
        family: Family,
        pipeline: "DiffusionPipeline",
        objective: Objective | FlowMatching,
        learner: Learner,
        words: Words,
        team: Team,
    ):
        self.config, self.family, self.pipeline, self.objective = config, family, pipeline, objective
        self.learner, self.words, self.team = learner, words, team
        self.denoiser: nn.Module = pipeline.components[family.denoiser_name]
        self.device = torch.device(config.runtime.device)
        self.dtype = runtime.torch_dtype(config.runtime.dtype)
        self.recordings: dict[tuple, Recording] = {}
        self.pool: tuple[int, int] | None = None

    def __call__(self, step: int, batches: list[tuple[Batch, float]], rate: float, how: str = "eager") -> tuple[Tensor, Tensor]:
        """(loss, gradient norm), scalars on the device. `batches` come with their weights; `how` is eager or graph."""
        self.learner.set_rate(rate)
        if self.config.lora.dropout:
            torch.manual_seed(draw(Purpose.LORA_DROPOUT, self.config.training.seed, step, self.team.rank).integers(2**63))
        inputs = [(self.inputs(batch), weight) for batch, weight in batches]
        return self._replay(inputs[0][0]) if how == "graph" else self._compute(inputs)

    def learn_mode(self) -> None:
        """Dropout and checkpointing work in this mode alone."""
        for part in targets(self.config, self.family):
            self.pipeline.components[part].train()

    def inputs(self, batch: Batch) -> Inputs:
        """A batch on the device. With a text encoder that learns, words become conditions here, and gradients flow back into it."""
        if self.config.lora.text_encoder:
            conditions = self.family.encode_prompts(self.pipeline, batch.captions)
        else:
            conditions = {name: self._brought(rows) for name, rows in self.words(batch.captions).items()}
        t_B = self.objective.timesteps(batch.uniform_B, tuple(batch.latents_BCHW.shape[2:]))
        mask = None if batch.mask_B1HW is None else self._brought(batch.mask_B1HW)
        return Inputs(self._brought(batch.latents_BCHW), self._brought(batch.noise_BCHW), self._brought(t_B), mask, conditions)

    def losses(self, inputs: Inputs) -> Tensor:
        """The loss of each example, float32: (B,)."""
        noisy_BCHW = self.objective.add_noise(inputs.latents_BCHW, inputs.noise_BCHW, inputs.t_B).to(self.dtype)
        conditions = {name: rows.to(self.dtype) if rows.is_floating_point() else rows for name, rows in inputs.conditions.items()}
        prediction_BCHW = self.family.predict(self.denoiser, noisy_BCHW, inputs.t_B, conditions)
        return self.objective.losses(prediction_BCHW, inputs.latents_BCHW, inputs.noise_BCHW, inputs.t_B, inputs.mask_B1HW)

    def _compute(self, inputs: list[tuple[Inputs, float]]) -> tuple[Tensor, Tensor]:
        told = None
        for each, weight in inputs:
            loss = weight * self.losses(each).mean()
            loss.backward()
            self.learner.gather()
            told = loss.detach() if told is None else told + loss.detach()
        self.team.average([*(weight.grad for weight in self.learner.masters.values() if weight.grad is not None), told])
        return told, self.learner.step()

    def _replay(self, inputs: Inputs) -> tuple[Tensor, Tensor]:
        key = inputs.shapes()
        if key not in self.recordings:
            self.recordings[key] = self._record(inputs)
        recording = self.recordings[key]
        for place, value in zip(recording.inputs.tensors(), inputs.tensors()):
            place.copy_(value)
        recording.graph.replay()
        return recording.loss.clone(), recording.norm.clone()

    def _record(self, inputs: Inputs) -> Recording:
        """Warm up and record one shape. Both change the numbers that learn, so these are put back as they were."""
        kept = self.snapshot()
        side = torch.cuda.Stream()
        side.wait_stream(torch.cuda.current_stream())
        with torch.cuda.stream(side):
            for _ in range(WARM_UP):
                self._compute([(inputs, 1.0)])
        torch.cuda.current_stream().wait_stream(side)
        graph = torch.cuda.CUDAGraph()
        # Recordings of several shapes are never replayed at once, so they share their memory.
        with torch.cuda.graph(graph, pool=self.pool):
            loss, norm = self._compute([(inputs, 1.0)])
        self.pool = self.pool or graph.pool()
        self.put_back(kept)
        return Recording(graph, inputs, loss, norm)

    def snapshot(self) -> list[tuple[Tensor, Tensor]]:
        """Every tensor that a step changes, with a copy of it. A fresh optimizer has none yet: it makes them in a step that changes nothing."""
        if not self.learner.optimizer.state:
            self._first_state()
        return [(tensor, tensor.clone()) for tensor in self.learner.state()[0].values()]

    def put_back(self, kept: list[tuple[Tensor, Tensor]]) -> None:
        for tensor, value in kept:
            tensor.copy_(value)
        self.learner.restore_copies()

    def _first_state(self) -> None:
        masters = list(self.learner.masters.values())
        before = [weight.detach().clone() for weight in masters]
        for weight in masters:
            weight.grad = torch.zeros_like(weight)
        self.learner.step()
        for weight, value in zip(masters, before):
            weight.detach().copy_(value)
        for state in self.learner.optimizer.state.values():
            for value in state.values():
                if isinstance(value, Tensor):
                    value.zero_()
        self.learner.restore_copies()

    def _brought(self, tensor: Tensor) -> Tensor:
        if self.device.type != "cuda" or tensor.device.type == "cuda":
            return tensor.to(self.device)
        # Out of pinned memory the copy runs beside the computing.
        return tensor.pin_memory().to(self.device, non_blocking=True)
