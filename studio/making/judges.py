"""Classifiers that score generated images: small convolutional networks trained on rendered images, never on generated ones.

One network, several questions: which things, in which colours, where, in which look. It is also trained on blurred, noisy and shifted
images, since generated images are softer than rendered ones.
"""

import random
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from torch import nn
from torch.nn import functional as F

from studio.making import pool
from studio.making.captioner import disturbed
from studio.making.creature import POSES
from studio.making.drawing import draw
from studio.making.ink import InkPen
from studio.making.muon import split
from studio.making.progress import Stage, cosine, generator, sixteen_bits, take_step, to_tensor
from studio.making.samples import character_scene, draw_character, dusk_light
from studio.making.world import COLOURS, SETTINGS, THINGS, Scene, sample

STEPS = 3500
BATCH = 48
LEARNING_RATE = 2e-3
FRESH_SHARE = 0.1
"""Share of newly rendered plain images: the pool has no held-out combinations, on which the classifiers must be accurate."""
LOOKS = ("plain", "ink", "dusk")
CREATURE = len(THINGS)
NOTHING = len(THINGS) + 1
"""Two classes more than there are things: the creature, and no second thing."""
QUESTIONS = {
    "left": len(THINGS) + 2,
    "right": len(THINGS) + 2,
    "left colour": len(COLOURS) + 1,
    "right colour": len(COLOURS) + 1,
    "setting": len(SETTINGS),
    "look": len(LOOKS),
}
"""For a single thing, 'left' is the thing and 'right' is NOTHING."""
UNKNOWN = -100
"""Ignored label: the colour of an ink drawing, the setting of a hatched plain background."""


@dataclass(frozen=True)
class Example:
    image: Image.Image
    answers: tuple[int, ...]


Pool = tuple[np.ndarray, list[Scene]]


def answers(scene: Scene, look: str) -> tuple[int, ...]:
    """Class indices in the order of QUESTIONS."""
    things = [THINGS.index(thing.name) if thing.name in THINGS else CREATURE for thing in scene.things]
    colours = [COLOURS.index(thing.colour) if thing.name in THINGS and look == "plain" else UNKNOWN for thing in scene.things]
    alone = len(things) == 1
    setting = SETTINGS.index(scene.setting) if look == "plain" else UNKNOWN
    return (things[0], NOTHING if alone else things[1], colours[0], len(COLOURS) if alone else colours[1], setting, LOOKS.index(look))


def example(rng: random.Random, rendered: Pool | None = None) -> Example:
    """A random image, mostly of the plain world: from the pool, or newly rendered if there is none."""
    chance = rng.random()
    look = "plain" if chance < 0.8 else "ink" if chance < 0.9 else "dusk"
    if rng.random() < 0.12:
        scene = character_scene(rng.choice(SETTINGS), rng.choice(("", "small", "large")), rng.choice(("", "", "left", "right")))
        image = draw_character(scene, rng.choice(POSES), rng)
    elif rendered and look != "ink" and rng.random() >= FRESH_SHARE:
        index = rng.randrange(len(rendered[1]))
        scene, image = rendered[1][index], Image.fromarray(rendered[0][index])
    else:
        scene = sample(rng)
        image = draw(scene, rng, InkPen) if look == "ink" else draw(scene, rng)
    look = "plain" if look == "ink" and scene.things[0].name not in THINGS else look
    return Example(dusk_light(image) if look == "dusk" else image, answers(scene, look))


def examples(count: int, seed: str, rendered: Pool) -> tuple[np.ndarray, np.ndarray]:
    chosen = [example(random.Random(f"{seed} {index}"), rendered) for index in range(count)]
    return np.stack([np.asarray(one.image) for one in chosen]), np.array([one.answers for one in chosen])


class Judge(nn.Module):
    """Images (B, 3, 128, 128) in [-1, 1] -> logits, one tensor per question."""

    def __init__(self):
        super().__init__()
        channels = (3, 32, 64, 128, 192)
        layers: list[nn.Module] = []
        for index, (before, after) in enumerate(zip(channels, channels[1:])):
            layers += [nn.Conv2d(before, after, 5 if index == 0 else 3, stride=2, padding=2 if index == 0 else 1), nn.BatchNorm2d(after), nn.ReLU()]
            if index:
                layers += [nn.Conv2d(after, after, 3, padding=1), nn.BatchNorm2d(after), nn.ReLU()]
        self.layers = nn.Sequential(*layers)
        self.mix = nn.Sequential(nn.Linear(192 * 3 * 8, 256), nn.ReLU())
        self.heads = nn.ModuleList(nn.Linear(256, count) for count in QUESTIONS.values())

    def forward(self, images_BCHW: torch.Tensor) -> list[torch.Tensor]:
        features = self.layers(images_BCHW)
        # Left, middle and right are pooled separately: of two things, the left one is named first.
        rows = torch.cat([features.mean(2), features.amax(2), features[:, :, 5:].mean(2)], dim=1)
        mixed = self.mix(rows.flatten(1))
        return [head(mixed) for head in self.heads]


def train(folder: Path, steps: int = STEPS, seed: int = 5) -> Judge:
    """Load trained weights from `folder`, or train them there (resumable). Only training needs the pool of images."""
    torch.manual_seed(seed)
    judge = Judge().train()
    stage = Stage(folder, "judges", steps, every=500)
    muon, rest = split(judge, LEARNING_RATE, apart=("layers.0.", "heads"), weight_decay=0.02)
    parts = {"model": judge, "muon": muon, "adamw": rest}
    stage.resume(**parts)
    if stage.step == steps:
        return judge.eval()
    pool.make(folder, "world", pool.WORLD_IMAGES, pool.SEED)
    world = pool.load(folder, "world")
    for step in stage.steps():
        images, expected = examples(BATCH, f"judge {seed} {step}", world)
        shown = to_tensor(images)
        shift = torch.randint(-3, 4, (2,), generator=generator(seed, step)).tolist()
        with sixteen_bits():
            logits = judge(torch.roll(disturbed(shown, generator(seed, step)), shift, (2, 3)))
        targets = torch.from_numpy(expected)
        each = (F.cross_entropy(scores.float(), targets[:, index], ignore_index=UNKNOWN) for index, scores in enumerate(logits))
        loss = sum(each, start=torch.zeros(()))
        loss.backward()
        torch.nn.utils.clip_grad_norm_(judge.parameters(), 2.0)
        take_step((muon, rest), cosine(step, steps, warmup=100))
        stage.note(loss=loss.item())
        if stage.due:
            stage.save(**parts)
    return judge.eval()


@torch.no_grad()
def ask(judge: Judge, images: list[Image.Image]) -> np.ndarray:
    """Class indices, one row per image, columns in the order of QUESTIONS."""
    found = []
    for start in range(0, len(images), 50):
        shown = to_tensor(np.stack([np.asarray(image.convert("RGB")) for image in images[start : start + 50]]))
        found.append(torch.stack([scores.argmax(1) for scores in judge(shown)], dim=1).numpy())
    return np.concatenate(found)


@dataclass(frozen=True)
class Reliability:
    """Reliability on unseen images: accuracy of the worst question, and false positive rates for ink and the creature."""

    accuracy: dict[str, float]
    false_positive: float


def reliability(judge: Judge, count: int = 2000) -> Reliability:
    rendered = [example(random.Random(f"judging the judges {index}")) for index in range(count)]
    expected = np.array([one.answers for one in rendered])
    found = ask(judge, [one.image for one in rendered])
    accuracy = {}
    for index, question in enumerate(QUESTIONS):
        asked = expected[:, index] != UNKNOWN
        accuracy[question] = float((found[asked, index] == expected[asked, index]).mean())
    ordinary = (expected[:, 5] == LOOKS.index("plain")) & (expected[:, 0] != CREATURE)
    mistaken = (found[:, 5] == LOOKS.index("ink")) | (found[:, 0] == CREATURE)
    return Reliability(accuracy, float(mistaken[ordinary].mean()))
