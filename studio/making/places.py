"""Settings: eight plain backgrounds and six places, each with soft colours that leave the foreground to the things.

A place is drawn with the same pen in a box from -1 to 1 over the whole image. GROUND is the height at which things stand, in image pixels.
"""

import random
from math import pi, sin

from studio.making.pen import RGB, Pen, mix, oval_points

BACKGROUND_VALUES: dict[str, RGB] = {
    "white": (252, 250, 246),
    "grey": (172, 176, 184),
    "yellow": (253, 230, 142),
    "pink": (252, 200, 214),
    "blue": (160, 204, 242),
    "green": (176, 220, 170),
    "purple": (202, 182, 232),
    "black": (42, 42, 52),
}
GROUND = {"street": 102, "rainy street": 102, "hill": 104, "sea": 108, "night": 106, "snow": 106}


def gradient(pen: Pen, top: RGB, bottom: RGB, start: float = -1.0, end: float = 1.0, bands: int = 24) -> None:
    """Gradient of a sky or a wall: even bands, too fine to be visible in the reduced image."""
    height = (end - start) / bands
    for index in range(bands):
        y = start + index * height
        pen.shape([(-1, y), (1, y), (1, y + height + 0.02), (-1, y + height + 0.02)], mix(top, bottom, index / (bands - 1)))


def plain(pen: Pen, colour: str) -> None:
    base = BACKGROUND_VALUES[colour]
    gradient(pen, mix(base, (255, 255, 255), 0.12), mix(base, (40, 40, 80), 0.05), bands=16)


def cloud(pen: Pen, x: float, y: float, size: float, fill: RGB, alpha: int = 255) -> None:
    for dx, dy, rx, ry in ((-0.5, 0.05, 0.4, 0.26), (0.5, 0.07, 0.38, 0.24), (0, -0.1, 0.5, 0.4), (0, 0.14, 0.85, 0.2)):
        pen.oval(x + dx * size, y + dy * size, rx * size, ry * size, fill, alpha=alpha)


def houses(pen: Pen, rng: random.Random, walls: tuple[RGB, ...], window: RGB, lit: RGB, roof_shade: float) -> None:
    """A row of narrow fronts along a street."""
    left = -1.05 - rng.uniform(0, 0.3)
    number = rng.randrange(len(walls))
    while left < 1.0:
        width, height = rng.uniform(0.4, 0.52), rng.uniform(0.72, 1.12)
        top, wall = 0.34 - height, walls[number % len(walls)]
        number += 1
        roof = mix(wall, (60, 40, 70), roof_shade)
        if rng.random() < 0.6:
            pen.shape([(left, top), (left + width / 2, top - 0.2), (left + width, top)], roof)
        else:
            pen.shape(
                [(left - 0.01, top - 0.06), (left + width + 0.01, top - 0.06), (left + width + 0.01, top + 0.02), (left - 0.01, top + 0.02)], roof
            )
        pen.shape([(left, top), (left + width, top), (left + width, 0.36), (left, 0.36)], wall)
        for row in range(3):
            for column in (0.27, 0.73):
                x, y = left + width * column, top + 0.16 + row * 0.25
                if y < 0.2:
                    pen.shape(
                        [(x - 0.055, y - 0.075), (x + 0.055, y - 0.075), (x + 0.055, y + 0.075), (x - 0.055, y + 0.075)],
                        lit if rng.random() < 0.3 else window,
                    )
        left += width


def street(pen: Pen, rng: random.Random) -> None:
    gradient(pen, (168, 214, 244), (236, 244, 244), -1, 0.1, 14)
    cloud(pen, rng.uniform(-0.7, 0.7), -0.78, 0.22, (255, 255, 255), 220)
    houses(pen, rng, ((240, 212, 190), (214, 222, 200), (244, 226, 180), (222, 206, 220), (204, 218, 230)), (150, 176, 196), (252, 240, 206), 0.3)
    pen.shape([(-1, 0.34), (1, 0.34), (1, 0.5), (-1, 0.5)], (214, 208, 202))
    pen.shape([(-1, 0.48), (1, 0.48), (1, 0.52), (-1, 0.52)], (178, 172, 172))
    pen.shape([(-1, 0.52), (1, 0.52), (1, 1), (-1, 1)], (136, 138, 150))
    shift = rng.uniform(0, 0.5)
    for index in range(-3, 4):
        x = index * 0.5 + shift
        pen.shape([(x, 0.84), (x + 0.26, 0.84), (x + 0.24, 0.89), (x - 0.02, 0.89)], (240, 234, 214))


def rainy_street(pen: Pen, rng: random.Random) -> None:
    gradient(pen, (112, 124, 146), (172, 182, 196), -1, 0.1, 14)
    for _ in range(3):
        cloud(pen, rng.uniform(-0.9, 0.9), rng.uniform(-0.98, -0.8), 0.36, (92, 102, 124), 200)
    houses(pen, rng, ((138, 140, 158), (150, 154, 162), (126, 136, 152), (156, 148, 160)), (92, 104, 126), (250, 214, 130), 0.35)
    pen.shape([(-1, 0.34), (1, 0.34), (1, 0.5), (-1, 0.5)], (140, 146, 160))
    gradient(pen, (84, 92, 114), (112, 124, 150), 0.5, 1.0, 8)
    for _ in range(7):
        x, y, length = rng.uniform(-1, 1), rng.uniform(0.54, 0.94), rng.uniform(0.1, 0.28)
        pen.oval(x, y, length, 0.022, (176, 190, 212), alpha=150)
    for _ in range(3):
        x = rng.uniform(-0.95, 0.95)
        pen.shape([(x - 0.05, 0.52), (x + 0.05, 0.52), (x + 0.03, 0.86), (x - 0.03, 0.86)], (250, 214, 130), alpha=80)


def rain(pen: Pen, rng: random.Random) -> None:
    """Raindrops in front of the things."""
    for _ in range(34):
        x, y, length = rng.uniform(-1, 1.1), rng.uniform(-1, 0.9), rng.uniform(0.08, 0.15)
        pen.shape([(x, y), (x + 0.016, y), (x - length * 0.3 + 0.016, y + length), (x - length * 0.3, y + length)], (214, 226, 244), alpha=190)
    for _ in range(6):
        x, y = rng.uniform(-0.95, 0.95), rng.uniform(0.6, 0.96)
        pen.stroke(oval_points(x, y, 0.07, 0.022, 0, 2 * pi, 12), (200, 214, 234), 0.014)


def hill(pen: Pen, rng: random.Random) -> None:
    gradient(pen, (134, 200, 246), (222, 242, 250), -1, 0.4, 16)
    sun = rng.choice((-1, 1)) * rng.uniform(0.55, 0.75)
    pen.oval(sun, -0.7, 0.24, 0.24, (255, 244, 190), alpha=120)
    pen.oval(sun, -0.7, 0.16, 0.16, (255, 226, 116))
    cloud(pen, -sun * rng.uniform(0.5, 0.9), rng.uniform(-0.75, -0.55), 0.3, (255, 255, 255), 235)
    phase = rng.uniform(0, 2 * pi)
    for base, height, fill, speed in ((0.22, 0.1, (160, 212, 160), 2.3), (0.36, 0.09, (130, 198, 124), 1.7), (0.52, 0.07, (108, 184, 96), 1.2)):
        line = [(x / 8, base - height * sin(speed * x / 4 + phase)) for x in range(-8, 9)]
        pen.shape([*line, (1, 1), (-1, 1)], fill)
        phase += 2.1
    for _ in range(12):
        x, y = rng.uniform(-0.95, 0.95), rng.uniform(0.64, 0.97)
        pen.stroke([(x - 0.02, y - 0.05), (x, y), (x + 0.03, y - 0.06)], (80, 156, 76), 0.016)
    for _ in range(5):
        pen.oval(rng.uniform(-0.95, 0.95), rng.uniform(0.66, 0.96), 0.024, 0.022, rng.choice(((255, 250, 230), (255, 226, 140))))


def sea(pen: Pen, rng: random.Random) -> None:
    gradient(pen, (126, 204, 242), (238, 246, 240), -1, 0.0, 14)
    cloud(pen, rng.uniform(-0.7, 0.7), rng.uniform(-0.8, -0.6), 0.26, (255, 255, 255), 230)
    gradient(pen, (58, 146, 190), (104, 200, 206), -0.06, 0.56, 14)
    for _ in range(9):
        x, y = rng.uniform(-1, 1), rng.uniform(0.0, 0.42)
        width = 0.08 + 0.12 * (y + 0.1)
        pen.stroke([(x - width, y), (x - width / 2, y - 0.02), (x, y), (x + width / 2, y - 0.02), (x + width, y)], (216, 242, 244), 0.02)
    phase = rng.uniform(0, 2 * pi)
    shore = [(x / 8, 0.52 + 0.035 * sin(x * 0.9 + phase)) for x in range(-8, 9)]
    pen.shape([*[(x, y - 0.05) for x, y in shore], (1, 1), (-1, 1)], (240, 250, 246))
    pen.shape([*shore, (1, 1), (-1, 1)], (236, 208, 158))
    pen.shape([*[(x, y + 0.12) for x, y in shore], (1, 1), (-1, 1)], (246, 222, 176))
    for _ in range(6):
        pen.oval(rng.uniform(-0.95, 0.95), rng.uniform(0.72, 0.96), 0.026, 0.016, (222, 190, 138))


def night(pen: Pen, rng: random.Random) -> None:
    gradient(pen, (22, 26, 66), (70, 76, 136), -1, 0.5, 18)
    for _ in range(26):
        size = rng.choice((0.012, 0.012, 0.02))
        pen.oval(rng.uniform(-1, 1), rng.uniform(-1, 0.2), size, size, (250, 244, 214))
    moon = rng.choice((-1, 1)) * rng.uniform(0.56, 0.74)
    pen.oval(moon, -0.68, 0.28, 0.28, (250, 240, 200), alpha=45)
    pen.oval(moon, -0.68, 0.18, 0.18, (252, 240, 190))
    for dx, dy, radius in ((-0.05, -0.03, 0.04), (0.06, 0.05, 0.03), (0.02, -0.1, 0.024)):
        pen.oval(moon + dx, -0.68 + dy, radius, radius, (234, 216, 160))
    phase = rng.uniform(0, 2 * pi)
    for base, height, fill, speed in ((0.3, 0.08, (44, 54, 104), 2.0), (0.46, 0.06, (34, 60, 84), 1.5), (0.6, 0.04, (30, 66, 74), 1.1)):
        pen.shape([*[(x / 8, base - height * sin(speed * x / 4 + phase)) for x in range(-8, 9)], (1, 1), (-1, 1)], fill)
        phase += 1.9
    for _ in range(8):
        x, y = rng.uniform(-0.95, 0.95), rng.uniform(0.72, 0.97)
        pen.stroke([(x - 0.02, y - 0.05), (x, y), (x + 0.03, y - 0.06)], (54, 96, 96), 0.016)


def fir(pen: Pen, x: float, ground: float, size: float, fill: RGB) -> None:
    for level in range(3):
        y = ground - size * 0.36 * level
        width = size * (0.36 - 0.08 * level)
        pen.shape([(x - width, y), (x, y - size * 0.55), (x + width, y)], fill)
        pen.shape([(x - width * 0.5, y - size * 0.28), (x, y - size * 0.55), (x + width * 0.5, y - size * 0.28)], (248, 250, 254))


def snow(pen: Pen, rng: random.Random) -> None:
    gradient(pen, (176, 196, 222), (226, 232, 242), -1, 0.4, 14)
    phase = rng.uniform(0, 2 * pi)
    pen.shape([*[(x / 8, 0.26 - 0.08 * sin(x * 0.5 + phase)) for x in range(-8, 9)], (1, 1), (-1, 1)], (214, 224, 240))
    for _ in range(4):
        fir(pen, rng.uniform(-0.95, 0.95), rng.uniform(0.3, 0.4), rng.uniform(0.34, 0.5), (128, 160, 168))
    pen.shape([*[(x / 8, 0.44 - 0.05 * sin(x * 0.4 + phase + 2)) for x in range(-8, 9)], (1, 1), (-1, 1)], (240, 244, 251))
    pen.shape([*[(x / 8, 0.74 - 0.03 * sin(x * 0.6 + phase)) for x in range(-8, 9)], (1, 1), (-1, 1)], (249, 250, 254))


def snowfall(pen: Pen, rng: random.Random) -> None:
    for _ in range(34):
        size = rng.uniform(0.014, 0.028)
        pen.oval(rng.uniform(-1, 1), rng.uniform(-1, 0.95), size, size, (255, 255, 255), alpha=230)


BEHIND = {"street": street, "rainy street": rainy_street, "hill": hill, "sea": sea, "night": night, "snow": snow}
IN_FRONT = {"rainy street": rain, "snow": snowfall}
