"""Learning-rate schedules as data: each a function of progress after warm-up, under the name and with the formula of diffusers."""

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

from studio.config import registry
from studio.config.registry import Entry

if TYPE_CHECKING:
    from studio.config.training import TrainingConfig

DIFFUSERS = "diffusers.optimization"


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


def rate_factor(training: "TrainingConfig", progress: float) -> float:
    """Part of the learning rate at this progress (0 after warm-up, 1 at the end)."""
    return get(training.lr_scheduler).factor(progress, training.lr_num_cycles, training.lr_power)
