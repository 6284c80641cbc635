"""Extension of a finished run: the learning rate of the steps that were added to it."""

import math
from typing import Literal

from pydantic import BaseModel, ConfigDict, Field

Schedule = Literal["keep", "new"]
WARMUP_SHARE = 0.05
"""Part of the added steps over which the learning rate of a new schedule grows."""


class Extension(BaseModel):
    """One extension. Part of a run's config, so that the rate of each step stays a function of the config."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    from_step: int = Field(ge=1)
    """Number of steps before it."""
    schedule: Schedule
    """keep: the last learning rate, constant. new: the run's schedule over the added steps, with a warm-up that begins at the last rate."""
    lr_warmup_steps: int = Field(0, ge=0)
    """Steps of the warm-up of a new schedule."""


def warmup_steps(run_warmup_steps: int, added: int) -> int:
    """Warm-up of a new schedule over `added` steps: as long as the run's or a twentieth of them, and at most half."""
    return max(1, min(max(run_warmup_steps, math.ceil(WARMUP_SHARE * added)), added // 2))
