"""What steps leave on the device, a loss and a gradient norm each, read together: reading one makes a card wait for the host."""

import math
import time

import torch
from torch import Tensor

from studio.config import optimizers
from studio.config.training import TrainingConfig
from studio.core.errors import StudioError
from studio.runs.run import Run
from studio.training.samples import Film

STEPS_BETWEEN_READINGS = 10
"""On a card a loss is read so often. On the processor every step is read."""


class NotFinite(StudioError):
    """A step gave no number; `retry` is what may help: {"title", "set"}."""

    def __init__(self, step: int, loss: float, kept: int, training: TrainingConfig):
        half, other = training.learning_rate / 2, optimizers.OPTIMIZERS[0]
        if optimizers.get(training.optimizer).excludes_schedule:
            self.retry = {"title": f"optimizer {other.name}", "set": {"training.optimizer": other.name}}
            advice = f"Start again with the optimizer {other.name}: {training.optimizer} reads no learning rate that could be lowered."
        else:
            self.retry = {"title": f"learning rate {half:g}", "set": {"training.learning_rate": half}}
            advice = f"Start again with half the learning rate ({half:g})."
        kept_words = f"The LoRA of step {kept} is kept. " if kept else ""
        super().__init__(f"Learning broke at step {step}: the loss is {loss:g}, not a number to learn from. {kept_words}{advice}")


class Readings:
    """`every`: how many steps may wait unread. `write`: whether this process tells the run, or only keeps step with the one that does."""

    def __init__(self, run: Run, film: Film, total: int, every: int, write: bool):
        self.run, self.film, self.total, self.every, self.write = run, film, total, every, write
        self.seconds_per_step: float | None = None
        self.unread: list[tuple[int, float, Tensor, Tensor]] = []
        self.start_clock()

    @property
    def full(self) -> bool:
        return len(self.unread) >= self.every

    def start_clock(self) -> None:
        """What came since the last step, a drawing, a pause, does not count as learning."""
        self.began = time.monotonic()

    def add(self, step: int, rate: float, loss: Tensor, norm: Tensor) -> None:
        self.unread.append((step, rate, loss, norm))

    def tell(self) -> tuple[int, float] | None:
        """Write what is unread into the run's events, to the first step that was not finite: (that step, its loss)."""
        unread, self.unread = self.unread, []
        if not unread or not self.write:
            self.start_clock()
            return None
        losses, norms = (torch.stack([entry[place] for entry in unread]).tolist() for place in (2, 3))
        took = (time.monotonic() - self.began) / len(unread)
        self.seconds_per_step = took if self.seconds_per_step is None else 0.9 * self.seconds_per_step + 0.1 * took
        for (step, rate, _, _), loss, norm in zip(unread, losses, norms):
            if not (math.isfinite(loss) and math.isfinite(norm)):
                return step, loss
            left = self.seconds_per_step * (self.total - step) + self.film.seconds_left(step)
            self.run.append({"kind": "step", "step": step, "loss": loss, "lr": rate, "seconds_per_step": self.seconds_per_step, "seconds_left": left})
        self.start_clock()
        return None
