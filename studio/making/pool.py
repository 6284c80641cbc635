"""Pool of training images: rendered once with one process per core, and stored as one memory-mapped array.

Image number n depends only on (seed, n), so the pool does not depend on the number of processes.
"""

import json
import random
from concurrent.futures import ProcessPoolExecutor
from os import cpu_count
from pathlib import Path

import numpy as np
from PIL import Image
from tqdm import tqdm

from studio.builtin import RESOLUTION
from studio.core.storage import replace_file
from studio.making.creature import POSES
from studio.making.drawing import draw
from studio.making.ink import InkPen
from studio.making.samples import character_scene, draw_character, dusk_light
from studio.making.world import SETTINGS, Scene, from_json, sample_for_training, to_json

SEED = 0
WORLD_IMAGES = 28_000
OTHER_IMAGES = 3_200
CHUNK = 250
LOOKS = ("ink", "dusk", "creature", "texture")
"""Looks that the autoencoder must reproduce besides the world, so that a LoRA can be trained on them."""


def world_image(seed: int, index: int) -> tuple[Image.Image, Scene]:
    rng = random.Random(f"world {seed} {index}")
    scene = sample_for_training(rng)
    return draw(scene, rng), scene


def texture(rng: random.Random) -> Image.Image:
    """Abstract random textures: soft or hard, grey or coloured, at a random scale."""
    noise = np.random.default_rng(rng.getrandbits(32))
    grain = rng.choice((2, 3, 4, 6, 8, 12))
    field = noise.integers(0, 256, (grain, grain, 3), dtype=np.uint8)
    if rng.random() < 0.4:
        field[..., 1:] = field[..., :1]
    filter = rng.choice((Image.Resampling.NEAREST, Image.Resampling.BILINEAR, Image.Resampling.BICUBIC))
    return Image.fromarray(field).resize((RESOLUTION, RESOLUTION), filter)


def other_image(seed: int, index: int) -> Image.Image:
    rng = random.Random(f"other {seed} {index}")
    look = LOOKS[index % len(LOOKS)]
    if look == "texture":
        return texture(rng)
    if look == "creature":
        return draw_character(character_scene(rng.choice(SETTINGS), rng.choice(("", "small", "large"))), rng.choice(POSES), rng)
    scene = sample_for_training(rng)
    return draw(scene, rng, InkPen) if look == "ink" else dusk_light(draw(scene, rng))


def draw_chunk(kind: str, seed: int, start: int, stop: int) -> tuple[np.ndarray, list[dict]]:
    images, scenes = [], []
    for index in range(start, stop):
        if kind == "world":
            image, scene = world_image(seed, index)
            scenes.append(to_json(scene))
        else:
            image = other_image(seed, index)
        images.append(np.asarray(image))
    return np.stack(images), scenes


def make(folder: Path, kind: str, count: int, seed: int) -> None:
    """Write <kind>.npy (count, 128, 128, 3) and, for the world, its scenes; existing files are kept."""
    target = folder / f"{kind}.npy"
    if target.exists():
        return
    part = folder / f"{kind}.part.npy"
    array = np.lib.format.open_memmap(part, mode="w+", dtype=np.uint8, shape=(count, RESOLUTION, RESOLUTION, 3))
    scenes: list[dict] = []
    starts = range(0, count, CHUNK)
    with ProcessPoolExecutor(cpu_count()) as processes:
        chunks = processes.map(draw_chunk, [kind] * len(starts), [seed] * len(starts), starts, [min(start + CHUNK, count) for start in starts])
        for start, (images, rendered) in zip(starts, tqdm(chunks, total=len(starts), desc=f"rendering {kind}", unit="x250")):
            array[start : start + len(images)] = images
            scenes += rendered
    array.flush()
    (folder / f"{kind}.json").write_text(json.dumps(scenes), encoding="utf-8")
    replace_file(part, target)


def load(folder: Path, kind: str) -> tuple[np.ndarray, list[Scene]]:
    scenes = json.loads((folder / f"{kind}.json").read_text(encoding="utf-8"))
    return np.load(folder / f"{kind}.npy", mmap_mode="r"), [from_json(entry) for entry in scenes]
