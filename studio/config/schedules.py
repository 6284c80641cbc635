"""Learning-rate schedules as data: each a function of progress after warm-up, under the name and with the formula of diffusers."""

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

from studio.config import registry
from studio.config.registry import Entry
from studio.core.wording import counted

if TYPE_CHECKING:
    from studio.config import extension
    from studio.config.training import TrainingConfig

DIFFUSERS = "diffusers.optimization"
LEAST_RATE = 0.01
"""Part of the learning rate below which added steps would learn next to nothing."""


@dataclass(frozen=True, kw_only=True)
class Schedule(Entry):
    factor: Callable[[float, int, float], float]
    """(progress, 0 after warm-up and 1 at the end; number of cycles; power) -> part of the learning rate."""


def _cosine(progress: float) -> float:
    return 0.5 * (1 + math.cos(math.pi * progress))


SCHEDULES: tuple[Schedule, ...] = (
    Schedule(
        name="constant",
        title="Constant",
        help="stays at the learning rate.",
        source=DIFFUSERS,
        factor=lambda progress, cycles, power: 1.0,
        names={"kohya": ("constant", "constant_with_warmup"), "ai-toolkit": ("constant", "constant_with_warmup")},
    ),
    Schedule(
        name="cosine",
        title="Cosine",
        help="falls to zero along half a cosine, slowly at both ends.",
        source=f"Loshchilov & Hutter 2017, arXiv:1608.03983; {DIFFUSERS}",
        factor=lambda progress, cycles, power: _cosine(progress),
        # ai-toolkit's restarts come every train.steps, so after the last step only.
        names={"kohya": ("cosine",), "ai-toolkit": ("cosine", "cosine_with_restarts")},
    ),
    Schedule(
        name="linear",
        title="Linear",
        help="falls to zero in a straight line.",
        source=DIFFUSERS,
        factor=lambda progress, cycles, power: 1 - progress,
        # ai-toolkit's grows from a third of the rate instead.
        names={"kohya": ("linear",)},
    ),
    Schedule(
        name="cosine_with_restarts",
        title="Cosine with restarts",
        help="several cosines, each from the full learning rate.",
        source=f"Loshchilov & Hutter 2017, arXiv:1608.03983; {DIFFUSERS}",
        factor=lambda progress, cycles, power: _cosine(cycles * progress % 1) if progress < 1 else 0.0,
        names={"kohya": ("cosine_with_restarts",)},
    ),
    Schedule(
        name="polynomial",
        title="Polynomial",
        help="falls to zero as a power of what is left; diffusers stops at 1e-7 instead.",
        source=DIFFUSERS,
        factor=lambda progress, cycles, power: (1 - progress) ** power,
        names={"kohya": ("polynomial",), "ai-toolkit": ("polynomial",)},
    ),
)


def get(name: str) -> Schedule:
    return registry.find(SCHEDULES, name)


def learning_rate(training: "TrainingConfig", step: int) -> float:
    """Learning rate of step `step` (from 0): linear warm-up, then the schedule; then the extensions of the run."""
    return _rate(training, step, len(training.extensions))


def last_rate(training: "TrainingConfig") -> float:
    """Learning rate of the last step."""
    return learning_rate(training, training.max_train_steps - 1)


def _rate(training: "TrainingConfig", step: int, count: int) -> float:
    """The learning rate where only the first `count` extensions exist."""
    while count and step < training.extensions[count - 1].from_step:
        count -= 1
    end = training.extensions[count].from_step if count < len(training.extensions) else training.max_train_steps
    if not count:
        return _scheduled(training, step, training.lr_warmup_steps, end, 0.0)
    extension = training.extensions[count - 1]
    before = _rate(training, extension.from_step - 1, count - 1)
    if extension.schedule == "keep":
        return before
    return _scheduled(training, step - extension.from_step, extension.lr_warmup_steps, end - extension.from_step, before)


def _scheduled(training: "TrainingConfig", step: int, warmup: int, steps: int, before: float) -> float:
    """Linear warm-up from the rate `before`, then the schedule, over `steps` steps."""
    if step < warmup:
        return before + (training.learning_rate - before) * (step + 1) / (warmup + 1)
    progress = (step - warmup) / max(1, steps - warmup)
    return training.learning_rate * rate_factor(training, progress)


def suggested_extension(training: "TrainingConfig") -> "extension.Schedule":
    """How to go on after the last step: at the last learning rate, except where that has fallen so low that nothing would be learned."""
    return "new" if last_rate(training) < LEAST_RATE * training.learning_rate else "keep"


def describe_extensions(training: "TrainingConfig") -> list[str]:
    """Each extension in a sentence, with its learning rate."""
    sentences = []
    for number, each in enumerate(training.extensions):
        after = training.extensions[number + 1 :]
        count = (after[0].from_step if after else training.max_train_steps) - each.from_step
        if each.schedule == "keep":
            rate = f"at the last learning rate, {learning_rate(training, each.from_step):.2g}, constant"
        else:
            rate = f"with a new {get(training.lr_scheduler).name} schedule, after a warm-up of {counted(each.lr_warmup_steps, 'step')}"
        sentences.append(f"Extended by {counted(count, 'step')} after step {each.from_step:,}, {rate}.")
    return sentences


def rate_factor(training: "TrainingConfig", progress: float) -> float:
    """Part of the learning rate at this progress (0 after warm-up, 1 at the end)."""
    return get(training.lr_scheduler).factor(progress, training.lr_num_cycles, training.lr_power)
