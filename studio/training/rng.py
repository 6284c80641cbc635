"""All randomness of training as a function of what it is for: no state to save, so a resumed run draws the same numbers.

Philox (Salmon et al. 2011, "Parallel random numbers: as easy as 1, 2, 3") is keyed by the run's seed and counted by purpose,
step and index in the global batch; numpy's stream from there is the same on every machine with this numpy.
"""

from enum import IntEnum

import numpy


class Purpose(IntEnum):
    """What a number is drawn for. The values are part of every run's result: add, never renumber."""

    ORDER = 0
    NOISE = 1
    TIMESTEP = 2
    POSTERIOR = 3
    CAPTION_DROPOUT = 4
    FLIP = 5
    INIT = 6
    LORA_DROPOUT = 7
    CAPTION_SHUFFLE = 8
    NOISE_OFFSET = 9
    HOLD_BACK = 10
    VALIDATION = 11


def draw(purpose: Purpose, seed: int, step: int, index: int = 0) -> numpy.random.Generator:
    """A generator of its own for each (purpose, seed, step, index)."""
    return numpy.random.Generator(numpy.random.Philox(key=seed, counter=[0, index, step, int(purpose)]))
