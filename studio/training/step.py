"""One training step: forward, loss, backward and optimizer, returning loss and gradient norm as scalars on the device.

Three kinds of execution: "eager"; "compiled", with the denoiser's repeated blocks under torch.compile; "graph", with the whole step from
forward to optimizer captured as one CUDA graph per input shape and replayed with new inputs. A U-Net launches many small kernels and mostly
waits for Python; a replay does not.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn

from studio.config import TrainConfig
from studio.devices import runtime
from studio.families.base import Family
from studio.families.objectives import FlowMatching, Objective
from studio.training.batches import Batch
from studio.training.distributed import ProcessGroup
from studio.training.encoding_cache import Conditions
from studio.training.lora import targets
from studio.training.parameters import TrainedParameters
from studio.training.rng import Purpose, make_rng

if TYPE_CHECKING:
    from diffusers import DiffusionPipeline
    from torch.cuda import _POOL_HANDLE

WARMUP_STEPS = 3
"""Steps before a capture, as the PyTorch notes on CUDA graphs require: libraries select their kernels in them."""


@dataclass
class Inputs:
    """Inputs of one forward pass, on the device: B examples with latents of C channels and H x W."""

    latents_BCHW: Tensor
    noise_BCHW: Tensor
    t_B: Tensor
    mask_B1HW: Tensor | None
    conditions: Conditions

    def tensors(self) -> list[Tensor]:
        """All tensors in a fixed order."""
        mask = [] if self.mask_B1HW is None else [self.mask_B1HW]
        return [self.latents_BCHW, self.noise_BCHW, self.t_B, *mask, *(self.conditions[name] for name in sorted(self.conditions))]

    def shapes(self) -> tuple:
        return tuple(tuple(tensor.shape) for tensor in self.tensors())


@dataclass
class CapturedStep:
    """A CUDA graph with the tensors that it reads and writes."""

    graph: "torch.cuda.CUDAGraph"
    inputs: Inputs
    loss: Tensor
    norm: Tensor


class Snapshot:
    """Copy of everything that a step changes: weights, EMA, optimizer tensors, counters and groups, gradients, torch's random generators.

    `restore` writes tensors in place, since captured graphs read their addresses. Optimizer state that did not exist yet is deleted again:
    its initial value differs between optimizers (schedule-free's z and Prodigy's p0 are the weights, not zero).
    """

    def __init__(self, parameters: TrainedParameters, device: torch.device):
        self.parameters, self.device, self.rate = parameters, device, parameters._rate
        self.state, groups = parameters.optimizer.state, parameters.optimizer.param_groups
        group_tensors = [value for group in groups for value in group.values() if isinstance(value, Tensor)]
        self.tensors = [(tensor, tensor.clone()) for tensor in [*parameters.state()[0].values(), *group_tensors]]
        self.entries = {weight: dict(entry) for weight, entry in self.state.items()}
        self.groups = [dict(group) for group in groups]
        self.generators = [torch.get_rng_state(), *([torch.cuda.get_rng_state(device)] if device.type == "cuda" else [])]

    def restore(self) -> None:
        parameters = self.parameters
        for tensor, value in self.tensors:
            tensor.copy_(value)
        for weight in list(self.state):
            if weight in self.entries:
                self.state[weight] = dict(self.entries[weight])
            else:
                del self.state[weight]
        for group, entry in zip(parameters.optimizer.param_groups, self.groups, strict=True):
            group.clear()
            group.update(entry)
        parameters._rate = self.rate
        for weight in [*parameters.masters.values(), *parameters.working.values()]:
            # A step that failed after backward leaves gradients.
            weight.grad = None
        parameters.copy_to_model()
        torch.set_rng_state(self.generators[0])
        if self.device.type == "cuda":
            torch.cuda.set_rng_state(self.generators[1], self.device)


class FirstUseFailed(Exception):
    """The first step with its shapes failed by an execution other than eager; the cause is the error. Everything that it changed is restored,
    except the learning rate and torch's seed for dropout, which each step sets itself."""


class TrainingStep:
    """Callable that trains one step; holds the model, the objective and the captured CUDA graphs."""

    def __init__(
        self,
        config: TrainConfig,
        family: Family,
        pipeline: "DiffusionPipeline",
        objective: Objective | FlowMatching,
        parameters: TrainedParameters,
        conditions: Callable[[list[str], bool], Conditions],
        group: ProcessGroup,
    ):
        self.config, self.family, self.pipeline, self.objective = config, family, pipeline, objective
        self.parameters, self.conditions, self.group = parameters, conditions, group
        self.denoiser: nn.Module = pipeline.components[family.denoiser_name]
        self.device = torch.device(config.runtime.filled_device)
        self.dtype = runtime.torch_dtype(config.runtime.filled_dtype)
        self.captured: dict[tuple, CapturedStep] = {}
        self.used: set[tuple] = set()
        """Shapes of the steps that the applied execution has run."""
        self.pool: _POOL_HANDLE | None = None

    def __call__(self, step: int, batches: list[tuple[Batch, float]], rate: float, execution: str = "eager") -> tuple[Tensor, Tensor]:
        """Train step `step` (from 0); returns (loss, gradient norm), scalars on the device.

        `batches`: each with the weight of its loss. `rate`: learning rate. `execution`: one of `backends.EXECUTIONS`; for "compiled" the
        blocks are compiled beforehand by `backends.apply`. FirstUseFailed if another one than eager cannot be used for these shapes.
        """
        self.parameters.set_rate(rate)
        if self.config.lora.dropout:
            torch.manual_seed(make_rng(Purpose.LORA_DROPOUT, self.config.training.seed, step, self.group.rank).integers(2**63))
        inputs = [(self.inputs(batch, execution), weight) for batch, weight in batches]
        shapes = tuple(each.shapes() for each, _ in inputs)
        if execution == "eager" or shapes in self.used:
            return self._execute(inputs, execution)
        saved = self.snapshot()
        try:
            result = self._execute(inputs, execution)
            if self.device.type == "cuda":
                # Errors of kernels are reported at a later call.
                torch.cuda.synchronize(self.device)
        except _failures() as error:
            if is_cuda_error(error):
                raise
            self.restore(saved)
            raise FirstUseFailed(str(error)) from error
        self.used.add(shapes)
        return result

    def _execute(self, inputs: list[tuple[Inputs, float]], execution: str) -> tuple[Tensor, Tensor]:
        return self._replay(inputs[0][0]) if execution == "graph" else self._compute(inputs)

    def train_mode(self, on: bool = True) -> None:
        """Put the trained models into train mode, which dropout and gradient checkpointing need, or into eval mode."""
        for part in targets(self.config, self.family):
            self.pipeline.components[part].train(on)

    def inputs(self, batch: Batch, execution: str = "eager") -> Inputs:
        """A batch on the device, with few lengths of prompts unless `execution` is eager. If a text encoder is trained, captions are encoded here,
        so that gradients flow back into it."""
        if self.config.lora.text_encoder:
            conditions = self._encode(batch.captions)
        else:
            conditions = {name: self._to_device(rows) for name, rows in self.conditions(batch.captions, execution != "eager").items()}
        height, width = batch.latents_BCHW.shape[2:]
        t_B = self.objective.timesteps(batch.uniform_B, (height, width))
        mask = None if batch.mask_B1HW is None else self._to_device(batch.mask_B1HW)
        return Inputs(self._to_device(batch.latents_BCHW), self._to_device(batch.noise_BCHW), self._to_device(t_B), mask, conditions)

    def _encode(self, captions: list[str]) -> Conditions:
        """Conditions of captions by the trained text encoders; an empty caption gets the family's unconditional input, as in `ConditionCache`."""
        encoded = self.family.encode_prompts(self.pipeline, captions)
        if all(captions) or self.config.runtime.filled_engine < 2:
            return encoded
        unconditional = self.family.unconditional(self.pipeline, encoded)
        if unconditional is encoded:
            return encoded
        has_caption_B = self._to_device(torch.tensor([bool(caption) for caption in captions]))
        # A selection by row, so that every text encoder has a gradient (of zero for an empty caption) in every process.
        return {name: torch.where(has_caption_B.view(-1, *[1] * (rows.ndim - 1)), rows, unconditional[name]) for name, rows in encoded.items()}

    def losses(self, inputs: Inputs) -> Tensor:
        """The loss of each example, float32: (B,)."""
        noisy_BCHW = self.objective.add_noise(inputs.latents_BCHW, inputs.noise_BCHW, inputs.t_B).to(self.dtype)
        conditions = {name: rows.to(self.dtype) if rows.is_floating_point() else rows for name, rows in inputs.conditions.items()}
        prediction_BCHW = self.family.predict(self.denoiser, noisy_BCHW, inputs.t_B, conditions)
        return self.objective.losses(prediction_BCHW, inputs.latents_BCHW, inputs.noise_BCHW, inputs.t_B, inputs.mask_B1HW)

    def _compute(self, inputs: list[tuple[Inputs, float]]) -> tuple[Tensor, Tensor]:
        """Forward, backward and optimizer step; returns (sum of the weighted losses, gradient norm)."""
        losses: list[Tensor] = []
        for each, weight in inputs:
            loss = weight * self.losses(each).mean()
            self.parameters.scaled(loss).backward()
            self.parameters.accumulate()
            losses.append(loss.detach())
        total = sum(losses[1:], start=losses[0])
        self.group.all_reduce_mean([*(weight.grad for weight in self.parameters.masters.values() if weight.grad is not None), total])
        return total, self.parameters.step()

    def _replay(self, inputs: Inputs) -> tuple[Tensor, Tensor]:
        """The same by a CUDA graph, captured first if this shape is new."""
        key = inputs.shapes()
        if key not in self.captured:
            self.captured[key] = self._capture(inputs)
        step = self.captured[key]
        for target, value in zip(step.inputs.tensors(), inputs.tensors()):
            target.copy_(value)
        step.graph.replay()
        return step.loss.clone(), step.norm.clone()

    def _capture(self, inputs: Inputs) -> CapturedStep:
        """Warm up and capture one shape. The warm-up changes the trained parameters, so they are restored afterwards."""
        if not self.parameters.optimizer.state:
            self._init_optimizer_state()
        saved = self.snapshot()
        side = torch.cuda.Stream()
        side.wait_stream(torch.cuda.current_stream())
        with torch.cuda.stream(side):
            for _ in range(WARMUP_STEPS):
                self._compute([(inputs, 1.0)])
        torch.cuda.current_stream().wait_stream(side)
        graph = torch.cuda.CUDAGraph()
        # Graphs of different shapes are never replayed at the same time, so they share one memory pool.
        with torch.cuda.graph(graph, pool=self.pool):
            loss, norm = self._compute([(inputs, 1.0)])
        self.pool = self.pool or graph.pool()
        self.restore(saved)
        return CapturedStep(graph, inputs, loss, norm)

    def snapshot(self) -> "Snapshot":
        """A copy of everything that a step changes, for `restore`."""
        return Snapshot(self.parameters, self.device)

    def restore(self, saved: "Snapshot") -> None:
        saved.restore()

    def _init_optimizer_state(self) -> None:
        """Allocate AdamW's state as zeros, since a capture needs it at its final address. Nothing else changes."""
        saved = self.snapshot()
        for weight in self.parameters.masters.values():
            weight.grad = torch.zeros_like(weight)
        self.parameters.step()
        created = dict(self.parameters.optimizer.state)
        saved.restore()
        self.parameters.optimizer.state.update(created)
        for state in created.values():
            for value in state.values():
                if isinstance(value, Tensor):
                    value.zero_()

    def _to_device(self, tensor: Tensor) -> Tensor:
        if self.device.type != "cuda" or tensor.device.type == "cuda":
            return tensor.to(self.device)
        # From pinned memory the copy runs in parallel with computation.
        return tensor.pin_memory().to(self.device, non_blocking=True)


def is_cuda_error(error: BaseException) -> bool:
    """Whether an error of CUDA has made its context in this process unusable. Running out of memory and a failed compilation do not."""
    if isinstance(error, torch.OutOfMemoryError):
        return False
    return isinstance(error, torch.AcceleratorError) or (isinstance(error, RuntimeError) and "CUDA error" in str(error))


def _failures() -> tuple[type[Exception], ...]:
    """Errors of a compilation or a capture. Reaching torch's limit of graphs is not a RuntimeError."""
    from torch._dynamo.exc import FailOnRecompileLimitHit

    return (RuntimeError, FailOnRecompileLimitHit)
