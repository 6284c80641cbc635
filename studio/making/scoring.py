"""Scoring of the shipped models: images generated from prompts, and the share that matches its prompt."""

import numpy as np
import torch
from diffusers import StableDiffusionPipeline
from PIL import Image

from studio.builtin import RESOLUTION
from studio.making.judges import CREATURE, LOOKS

STEPS, GUIDANCE = 20, 5.0


def generate(pipeline: StableDiffusionPipeline, prompts: list[str], seed: int, batch: int = 20) -> list[Image.Image]:
    """One image per prompt, each from its own seed, so that a score does not depend on the batch size."""
    images = []
    for start in range(0, len(prompts), batch):
        some = prompts[start : start + batch]
        seeds = [torch.Generator().manual_seed(seed + start + index) for index in range(len(some))]
        generated = pipeline(some, num_inference_steps=STEPS, guidance_scale=GUIDANCE, height=RESOLUTION, width=RESOLUTION, generator=seeds)
        images += generated.images
    return images


def share_of_ink(found: np.ndarray) -> float:
    return float((found[:, 5] == LOOKS.index("ink")).mean())


def share_of_creature(found: np.ndarray) -> float:
    return float(((found[:, 0] == CREATURE) | (found[:, 1] == CREATURE)).mean())
