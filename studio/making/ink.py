"""Ink style, which the base cannot generate: black contours and hatching on paper, no colour. Implements the interface of pen.py."""

from functools import lru_cache

import numpy as np
from PIL import Image, ImageDraw

from studio.builtin import RESOLUTION
from studio.making.pen import RGB, SCALE, Pen

PAPER: RGB = (244, 236, 218)
INK: RGB = (28, 26, 34)


def tone_of(colour: RGB) -> int:
    """Hatching level of a colour by perceived brightness, in five steps from bare paper to nearly black."""
    brightness = (0.3 * colour[0] + 0.59 * colour[1] + 0.11 * colour[2]) / 255
    return 0 if brightness > 0.86 else 1 if brightness > 0.68 else 2 if brightness > 0.46 else 3 if brightness > 0.27 else 4


@lru_cache(maxsize=8)
def hatching(tone: int) -> Image.Image:
    """Hatching of the whole canvas in one tone: slanted lines, crossed from the fourth tone on."""
    side = RESOLUTION * SCALE
    y, x = np.mgrid[0:side, 0:side].astype(np.float32)
    spacing = (0.0, 24.0, 18.0, 18.0, 15.0)[tone]
    ink = np.zeros((side, side), bool)
    if tone:
        # A slow wave and a slant make the lines look hand-drawn.
        ink |= (x + 0.8 * y + 2.5 * np.sin(y / 31)) % spacing < spacing * (0.0, 0.2, 0.27, 0.32, 0.46)[tone]
    if tone >= 3:
        ink |= (x - 0.9 * y + 2.5 * np.sin(x / 27)) % spacing < spacing * (0.28 if tone == 3 else 0.42)
    return Image.fromarray(np.where(ink[..., None], np.array(INK, np.uint8), np.array(PAPER, np.uint8)))


def is_band(points) -> bool:
    """Whether this is a strip from edge to edge, part of a sky's gradient, which has no contour in ink."""
    return len(points) == 4 and all(abs(x) == 1 for x, _ in points)


class InkPen(Pen):
    """Pen for ink: fills become hatching, contours become ink; faint washes are skipped."""

    def __init__(self, image, x=64, y=64, size=128, tilt=0.0, mirror=False):
        super().__init__(image, x, y, size, tilt, mirror)
        self.contour = 4
        # Shapes as large as the image are the setting: one step lighter, so that the thing in front stands out.
        self.step_lighter = 1 if size >= RESOLUTION else 0

    def shape(self, points, fill, line=None, alpha=255):
        if alpha < 200:
            return
        placed = self.at(points)
        mask = Image.new("1", self.image.size)
        ImageDraw.Draw(mask).polygon(placed, fill=1)
        self.image.paste(hatching(max(0, tone_of(fill) - self.step_lighter)), mask=mask)
        if line is None and self.step_lighter and not is_band(points):
            self.draw.line([*placed, placed[0]], fill=INK, width=3)
        if line is not None:
            self.draw.line([*placed, placed[0], placed[1]], fill=PAPER, width=self.contour + 6, joint="curve")
            self.draw.line([*placed, placed[0], placed[1]], fill=INK, width=self.contour, joint="curve")

    def stroke(self, points, fill, width):
        placed = self.at(points)
        self.draw.line(placed, fill=INK, width=max(2, min(7, round(width * self.half))), joint="curve")

    def shadow(self, x, y, rx, ry, strength=60):
        for index in range(4):
            height = y + (index - 1.5) * ry * 0.5
            self.draw.line(self.at([(x - rx * (1 - 0.12 * index), height), (x + rx * (1 - 0.2 * index), height)]), fill=INK, width=2)
