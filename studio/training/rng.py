"""Stateless RNG: Philox keyed by (purpose, seed, step, index). A resumed run needs no saved state to draw the same numbers.

Philox (Salmon et al. 2011, "Parallel random numbers: as easy as 1, 2, 3") has the run's seed as key, and purpose, step and index in the
global batch as counter; numpy's stream from there is the same on every machine with this numpy.
"""

from enum import IntEnum

import numpy


class Purpose(IntEnum):
    """Use of a random number. The values determine the result of every run: add new ones, never renumber."""

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
    VALIDATION_SPLIT = 10
    VALIDATION = 11


def make_rng(purpose: Purpose, seed: int, step: int, index: int = 0) -> numpy.random.Generator:
    """An independent generator for each (purpose, seed, step, index)."""
    return numpy.random.Generator(numpy.random.Philox(key=seed, counter=[0, index, step, int(purpose)]))
