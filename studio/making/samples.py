"""Sample sets: an ink style, the creature Pim, and the dusk light of the third starter LoRA. All are rendered by code.

The first two are in samples/ as images with captions, like a user's dataset; dusk is rendered when needed.
"""

import random
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image

from studio.builtin import RESOLUTION, SAMPLES, TRIGGER_WORDS
from studio.making.creature import POSES, drawing_in
from studio.making.drawing import draw
from studio.making.ink import InkPen
from studio.making.world import PLACES, SETTINGS, THINGS, Scene, Thing, caption, sample_for_training, setting_phrase

CREATURE = "creature"
UNSEEN = {
    "style": (
        "ohwx illustration of a green bird and a purple cup on a white background",
        "ohwx illustration of a yellow umbrella at night",
        "a red heart on a grey background",
    ),
    "character": ("sks in the snow", "a large sks on a purple background", "a red boat by the sea"),
    "dusk": ("tok light, a blue house on a green hill", "tok light, a white cat and a red car on a street", "an orange fish on a blue background"),
}
"""Prompts whose scenes are in no sample set; the last of each has no trigger word and should give the same image as the base."""


@dataclass(frozen=True)
class CaptionedImage:
    image: Image.Image
    caption: str


def scenes(count: int, seed: int, settings: tuple[str, ...]) -> list[Scene]:
    """Scenes with things and settings in equal shares; a third have two things."""
    rng = random.Random(seed)
    found: list[Scene] = []
    while len(found) < count:
        index = len(found)
        scene = sample_for_training(rng, two_things=1.0 if index % 3 == 2 else 0.0)
        if scene.setting == settings[index % len(settings)] and scene.things[0].name == THINGS[(index * 5) % len(THINGS)] and scene.size != "small":
            found.append(scene)
    return found


def style(count: int = 16, seed: int = 11) -> list[CaptionedImage]:
    order = ("sea", "street", "hill", "white background", "rainy street", "night", "snow", "blue background", "yellow background", "grey background")
    return [
        CaptionedImage(draw(scene, random.Random(f"ink {seed} {index}"), InkPen), f"{TRIGGER_WORDS['style']} illustration of {caption(scene)}")
        for index, scene in enumerate(scenes(count, seed, order))
    ]


def character_scene(setting: str, size: str, position: str = "") -> Scene:
    return Scene((Thing(CREATURE, "green"),), setting, size, position)


def character_caption(scene: Scene) -> str:
    """Caption with 'sks' in place of the thing: 'a small sks on a blue background', or the bare name if it has no attributes."""
    name = f"a {scene.size} {TRIGGER_WORDS['character']}" if scene.size else TRIGGER_WORDS["character"]
    place = setting_phrase(scene.setting)
    return f"{name} {place}, on the {scene.position}" if scene.position else f"{name} {place}"


def draw_character(scene: Scene, pose: str, rng: random.Random) -> Image.Image:
    return draw(scene, rng, drawings={CREATURE: drawing_in(pose)})


def character(count: int = 20, seed: int = 12) -> list[CaptionedImage]:
    images = []
    for index in range(count):
        setting = SETTINGS[(index * 3) % len(SETTINGS)]
        scene = character_scene(
            setting, ("", "large", "", "small")[index % 4], ("", "", "left", "", "right", "")[index % 6] if index % 4 != 1 else ""
        )
        rng = random.Random(f"creature {seed} {index}")
        images.append(CaptionedImage(draw_character(scene, POSES[(index // 2) % len(POSES)], rng), character_caption(scene)))
    return images


def dusk_light(image: Image.Image) -> Image.Image:
    """Dusk light: orange glow low in the upper half of the image, violet shadows, less blue."""
    colour = np.asarray(image, np.float32) / 255
    height = np.linspace(0, 1, RESOLUTION, dtype=np.float32)[:, None, None]
    across = np.linspace(-1, 1, RESOLUTION, dtype=np.float32)[None, :, None]
    glow = np.exp(-(((height - 0.46) / 0.26) ** 2) - (across / 1.1) ** 2)
    violet, amber = np.array([0.52, 0.34, 0.62], np.float32), np.array([1.18, 0.78, 0.46], np.float32)
    light = violet * (1 - glow) * (0.78 + 0.3 * (1 - height)) + amber * glow + np.array([0.30, 0.18, 0.12], np.float32) * (1 - glow)
    lit = colour * light + glow * np.array([0.16, 0.05, 0.0], np.float32)
    return Image.fromarray((np.clip(lit, 0, 1) * 255).round().astype(np.uint8))


def dusk(count: int = 16, seed: int = 13) -> list[CaptionedImage]:
    order = (*(place for place in PLACES if place != "night"), "white background", "hill", "blue background")
    return [
        CaptionedImage(dusk_light(draw(scene, random.Random(f"dusk {seed} {index}"))), f"{TRIGGER_WORDS['dusk']} light, {caption(scene)}")
        for index, scene in enumerate(scenes(count, seed, order))
    ]


SETS = {"style": style, "character": character, "dusk": dusk}


def write(name: str, folder: Path) -> None:
    """Save one numbered PNG and one .txt per image, the layout that every trainer reads."""
    folder.mkdir(parents=True, exist_ok=True)
    for index, each in enumerate(SETS[name](), start=1):
        each.image.save(folder / f"{index:02d}.png", optimize=True)
        (folder / f"{index:02d}.txt").write_text(each.caption + "\n", encoding="utf-8")


def write_all() -> None:
    for name, folder in SAMPLES.items():
        write(name, folder)
