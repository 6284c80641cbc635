"""Metrics of training steps: loss, gradient norm, learning rate and speed, written to the run's events.

Losses and norms stay on the device for several steps and are read together, because each read synchronises the GPU with the host.
"""

import math
import time

import torch
from torch import Tensor

from studio.config import optimizers
from studio.config.training import TrainingConfig
from studio.core.errors import StudioError
from studio.runs.run import Run
from studio.training.samples import SampleGrid

STEPS_BETWEEN_READS = 10
"""Steps between two reads on a GPU. On a CPU every step is read."""

MAX_SKIPPED = 24
"""Steps in a row that loss scaling may skip. Each halves the scale, so after 24 it is below 0.004 and the values themselves overflow."""


class NotFinite(StudioError):
    """The loss or gradient norm of a step is NaN or infinite. `retry` is the suggested change of settings: {"title", "set"}."""

    def __init__(self, step: int, loss: float, kept: int, training: TrainingConfig, dtype: str):
        half, other = training.learning_rate / 2, optimizers.OPTIMIZERS[0]
        if dtype == "float16":
            self.retry = {"title": "precision float32", "set": {"runtime.dtype": "float32"}}
            advice = "Start again with the precision float32, which is slower: float16 holds values up to 65,504."
        elif optimizers.get(training.optimizer).excludes_schedule:
            self.retry = {"title": f"optimizer {other.name}", "set": {"training.optimizer": other.name}}
            advice = f"Start again with the optimizer {other.name}: {training.optimizer} reads no learning rate that could be lowered."
        else:
            self.retry = {"title": f"learning rate {half:g}", "set": {"training.learning_rate": half}}
            advice = f"Start again with half the learning rate ({half:g})."
        saved = f"The LoRA of step {kept} is kept. " if kept else ""
        super().__init__(f"Training diverged at step {step}: the loss is {loss:g}, and the loss and gradient have to be finite. {saved}{advice}")


class MetricsReader:
    """Collects the metrics of steps on the device and writes them as "step" events.

    `every`: steps between two reads. `write`: False in processes that are not the main one; they only clear what they collected.
    `may_skip`: whether single steps may overflow, as in float16, where loss scaling skips them; a "skipped" event is written for each.
    """

    def __init__(self, run: Run, samples: SampleGrid, total: int, every: int, write: bool, may_skip: bool):
        self.run, self.samples, self.total, self.every, self.write, self.may_skip = run, samples, total, every, write, may_skip
        self.skipped_in_a_row = 0
        self.seconds_per_step: float | None = None
        self.unread: list[tuple[int, float, Tensor, Tensor, Tensor | None]] = []
        self.start_clock()

    @property
    def full(self) -> bool:
        return len(self.unread) >= self.every

    def start_clock(self) -> None:
        """Restart the timer, so that samples, checkpoints and pauses do not count as seconds per step."""
        self.began = time.monotonic()

    def add(self, step: int, rate: float, loss: Tensor, norm: Tensor, effective_rate: Tensor | None = None) -> None:
        """Collect one step; tensors are scalars on the device. `effective_rate`: that of an optimizer that finds it, which `rate` multiplies."""
        self.unread.append((step, rate, loss, norm, effective_rate))

    def flush(self) -> tuple[int, float] | None:
        """Write all collected steps up to the first one that is not finite; returns (step, loss) of that one, None if all are finite."""
        unread, self.unread = self.unread, []
        if not unread or not self.write:
            self.start_clock()
            return None
        losses = torch.stack([loss for _, _, loss, _, _ in unread]).tolist()
        norms = torch.stack([norm for _, _, _, norm, _ in unread]).tolist()
        found = {step: effective for step, _, _, _, effective in unread if effective is not None}
        found_rates = dict(zip(found, torch.stack(list(found.values())).tolist())) if found else {}
        seconds = (time.monotonic() - self.began) / len(unread)
        self.seconds_per_step = seconds if self.seconds_per_step is None else 0.9 * self.seconds_per_step + 0.1 * seconds
        for (step, rate, *_), loss, norm in zip(unread, losses, norms):
            if not (math.isfinite(loss) and math.isfinite(norm)):
                self.skipped_in_a_row += 1
                if not self.may_skip or self.skipped_in_a_row > MAX_SKIPPED:
                    return step, loss
                self.run.append({"kind": "skipped", "step": step})
                continue
            self.skipped_in_a_row = 0
            left = self.seconds_per_step * (self.total - step) + self.samples.seconds_left(step)
            rates = {"lr": rate, **({"effective_lr": found_rates[step]} if step in found_rates else {})}
            self.run.append({"kind": "step", "step": step, "loss": loss, **rates, "seconds_per_step": self.seconds_per_step, "seconds_left": left})
        self.start_clock()
        return None
