"""Rendering of a scene: setting, soft shadows, things, weather in front. The same scene and seed give the same bytes.

The layout (position, size, orientation) is a separate function, so that another pen (ink) can draw the same scene.
"""

import random
from dataclasses import dataclass

from PIL import Image

from studio.builtin import RESOLUTION
from studio.making.pen import COLOUR_VALUES, RGB, SCALE, Pen, Tones, tones
from studio.making.places import BEHIND, GROUND, IN_FRONT, plain
from studio.making.things import DRAWINGS
from studio.making.world import PLACES, Scene

SIDE_PIXELS = {"small": (31, 36), "": (54, 62), "large": (88, 98)}
"""Side of a thing's box, with a gap between the sizes."""
PAIR_PIXELS = (48, 54)
FLOOR_SHADOW = {"street": 70, "rainy street": 70, "hill": 64, "sea": 56, "night": 90, "snow": 50}
MIRRORED = ("cat", "fish", "bird", "car", "boat", "cup", "house", "tree")


@dataclass(frozen=True)
class Placed:
    """Box of one thing in the image: centre and side in pixels, tilt in radians."""

    x: float
    y: float
    side: float
    tilt: float
    mirror: bool


def place(scene: Scene, rng: random.Random) -> list[Placed]:
    """Position of each thing of a scene; left and right leave the middle third free, so that they are unambiguous."""
    placed = []
    for index, thing in enumerate(scene.things):
        pair = len(scene.things) == 2
        side = rng.uniform(*(PAIR_PIXELS if pair else SIDE_PIXELS[scene.size]))
        jitter = 0.0 if scene.size == "large" else 3.5
        x, y = 64 + rng.uniform(-jitter, jitter), 64 + rng.uniform(-jitter, jitter)
        away = max(0.0, 62 - side / 2 - rng.uniform(0, 4))
        if pair:
            x = (33, 95)[index] + rng.uniform(-3, 3)
        elif scene.position in ("left", "right"):
            x = 64 + away * (-1 if scene.position == "left" else 1)
        elif scene.position in ("top", "bottom"):
            y = 64 + away * (-1 if scene.position == "top" else 1)
        if scene.setting in PLACES:
            y = min(GROUND[scene.setting] + rng.uniform(-2, 4) - 0.475 * side + (8 if scene.size == "large" else 0), 127 - side / 2)
        placed.append(Placed(x, y, side, rng.uniform(-0.07, 0.07), thing.name in MIRRORED and rng.random() < 0.5))
    return placed


def shaken(colour: RGB, rng: random.Random, amount: int = 6) -> RGB:
    red, green, blue = (min(255, max(0, value + rng.randint(-amount, amount))) for value in colour)
    return red, green, blue


def draw_shadow(pen: Pen, scene: Scene) -> None:
    """Shadow on the ground of a place, or below a thing on a plain background."""
    if scene.setting in PLACES:
        pen.shadow(0.08, 0.96, 0.82, 0.13, FLOOR_SHADOW[scene.setting])
    else:
        pen.shadow(0.0, 1.02, 0.6, 0.07, 34)


def draw_setting(pen: Pen, setting: str, rng: random.Random) -> None:
    if setting in PLACES:
        BEHIND[setting](pen, rng)
    else:
        plain(pen, setting.removesuffix(" background"))


def canvas(pen_class: type[Pen], x: float = 64, y: float = 64) -> tuple[Image.Image, Pen]:
    image = Image.new("RGB", (RESOLUTION * SCALE,) * 2, (255, 255, 255))
    return image, pen_class(image, x, y, RESOLUTION)


def draw(scene: Scene, rng: random.Random, pen_class: type[Pen] = Pen, drawings=DRAWINGS, colours: dict[str, Tones] | None = None) -> Image.Image:
    """Render a 128 x 128 RGB image. With `drawings` and `colours` a sample set adds things that are not in the world."""
    image, ground = canvas(pen_class)
    draw_setting(ground, scene.setting, rng)
    boxes = place(scene, rng)
    for box in boxes:
        draw_shadow(pen_class(image, box.x, box.y, box.side), scene)
    for thing, box in zip(scene.things, boxes):
        pen = pen_class(image, box.x, box.y, box.side, box.tilt, box.mirror)
        tone = colours[thing.colour] if colours and thing.colour in colours else tones(shaken(COLOUR_VALUES[thing.colour], rng))
        drawings[thing.name](pen, tone)
    if scene.setting in IN_FRONT:
        IN_FRONT[scene.setting](ground, rng)
    # LANCZOS from three times the size; a box filter first would blur the contours.
    return image.resize((RESOLUTION, RESOLUTION), Image.Resampling.LANCZOS)
