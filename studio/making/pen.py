"""Pen for images of the built-in world: shapes in a thing's own coordinates, tones instead of colours.

Coordinates run from -1 to 1, x to the right and y downwards, before the pen's own shift, scale, tilt and mirror. A second pen (ink.py)
draws the same strokes in another style; therefore shapes use tones, never plain colours.
"""

from dataclasses import dataclass
from math import cos, pi, sin

from PIL import Image, ImageDraw

RGB = tuple[int, int, int]
SCALE = 3
"""Supersampling factor: images are drawn three times as large and reduced, for anti-aliasing."""

COLOUR_VALUES: dict[str, RGB] = {
    "red": (222, 56, 58),
    "orange": (244, 138, 38),
    "yellow": (250, 211, 58),
    "green": (66, 166, 84),
    "blue": (54, 108, 214),
    "purple": (136, 80, 188),
    "pink": (247, 138, 178),
    "brown": (134, 86, 56),
    "black": (44, 44, 54),
    "white": (248, 247, 243),
}
NIGHT: RGB = (36, 26, 60)


def mix(first: RGB, second: RGB, share: float) -> RGB:
    red, green, blue = (round(a + (b - a) * share) for a, b in zip(first, second))
    return red, green, blue


@dataclass(frozen=True)
class Tones:
    """Tones of one colour: the colour itself, lit, shaded, and its contour."""

    base: RGB
    light: RGB
    dark: RGB
    line: RGB


def tones(base: RGB) -> Tones:
    """Very dark colours get a lighter contour and pale ones a grey one, so that they stand out from a similar background."""
    brightness = sum(base) / 3
    if brightness < 70:
        return Tones(base, mix(base, (255, 255, 255), 0.22), mix(base, (0, 0, 0), 0.4), mix(base, (255, 255, 255), 0.42))
    if brightness > 235:
        return Tones(base, (255, 255, 255), mix(base, (92, 100, 140), 0.2), mix(base, (64, 66, 100), 0.52))
    return Tones(base, mix(base, (255, 255, 255), 0.4), mix(base, NIGHT, 0.24), mix(base, NIGHT, 0.52))


def oval_points(x: float, y: float, rx: float, ry: float, start: float = 0.0, end: float = 2 * pi, count: int = 36) -> list[tuple[float, float]]:
    step = (end - start) / (count - 1)
    return [(x + rx * cos(start + step * index), y + ry * sin(start + step * index)) for index in range(count)]


class Pen:
    """Pen with flat colour and a thin contour in a dark tone of the colour."""

    def __init__(self, image: Image.Image, x: float = 64, y: float = 64, size: float = 128, tilt: float = 0.0, mirror: bool = False):
        """x, y: the centre in image pixels; size: the side of the box from -1 to 1; tilt in radians."""
        self.image = image
        self.draw = ImageDraw.Draw(image, "RGBA")
        half = size / 2 * SCALE
        self.half = half
        self.xx, self.xy = half * cos(tilt) * (-1 if mirror else 1), -half * sin(tilt)
        self.yx, self.yy = half * sin(tilt) * (-1 if mirror else 1), half * cos(tilt)
        self.x, self.y = x * SCALE, y * SCALE
        self.contour = max(2, round(min(1.9, 0.9 + size / 70) * SCALE / 2) * 1)

    def at(self, points) -> list[tuple[float, float]]:
        return [(self.x + self.xx * px + self.xy * py, self.y + self.yx * px + self.yy * py) for px, py in points]

    def shape(self, points, fill, line: RGB | None = None, alpha: int = 255) -> None:
        """A filled polygon; `line` adds the contour."""
        placed = self.at(points)
        self.draw.polygon(placed, fill=(*fill, alpha))
        if line is not None:
            self.draw.line([*placed, placed[0], placed[1]], fill=line, width=self.contour, joint="curve")

    def oval(self, x: float, y: float, rx: float, ry: float, fill, line: RGB | None = None, alpha: int = 255) -> None:
        self.shape(oval_points(x, y, rx, ry), fill, line, alpha)

    def stroke(self, points, fill: RGB, width: float) -> None:
        """An open line; width in the thing's own units."""
        placed = self.at(points)
        thickness = max(2, round(width * self.half))
        self.draw.line(placed, fill=fill, width=thickness, joint="curve")
        radius = thickness / 2 - 0.5
        for px, py in (placed[0], placed[-1]):
            self.draw.ellipse((px - radius, py - radius, px + radius, py + radius), fill=fill)

    def shadow(self, x: float, y: float, rx: float, ry: float, strength: int = 60) -> None:
        """A soft shadow on the ground: three thin overlapping ovals."""
        for share in (1.0, 0.82, 0.6):
            self.draw.polygon(self.at(oval_points(x, y, rx * share, ry * share, count=24)), fill=(*NIGHT, strength // 3))
