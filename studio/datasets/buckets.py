"""Aspect-ratio buckets: the sizes that training images are scaled and cropped to, all with about the same area. No torch, no diffusers.

Sizes are (height, width) in pixels. All comparisons are exact, in integers and fractions, so that every machine has the same table.
"""

import math
from collections.abc import Iterator
from dataclasses import dataclass
from fractions import Fraction

from studio.families.base import Family
from studio.families.facts import BaseFolder

Size = tuple[int, int]

RATIOS = tuple(Fraction(*ratio) for ratio in ((1, 1), (5, 4), (4, 3), (3, 2), (16, 9), (2, 1), (7, 3), (14, 5), (10, 3), (4, 1)))
"""Long side to short side: common formats of cameras and screens, then steps of a fifth. Between two of them an image loses at most 11 %."""
MOST_AREA = Fraction(9, 8)
"""Largest area of a bucket, in areas of the square: memory and time of a step are those of the square, or a little more."""

FIRST_RATIOS = ((1, 1), (4, 5), (5, 4), (2, 3), (3, 2), (3, 4), (4, 3), (9, 16), (16, 9), (1, 2), (2, 1))
"""Width to height in engine 1: those of diffusers 0.38 (`diffusers.training_utils`), whose table it used."""


@dataclass(frozen=True)
class BucketTable:
    """The buckets of one resolution, the squarest first."""

    sizes: tuple[Size, ...]
    engine: int

    def nearest(self, height: int, width: int) -> Size:
        """The bucket whose aspect ratio is nearest to that of an image."""
        if self.engine < 2:
            return _nearest_by_difference(height, width, self.sizes)
        short, long = sorted((height, width))
        landscape = [size for size in self.sizes if size[0] <= size[1]]
        chosen = landscape[0]
        for before, after in zip(landscape, landscape[1:]):
            # Beyond the geometric mean of the two ratios the next one is nearer.
            if long**2 * before[0] * after[0] > short**2 * before[1] * after[1]:
                chosen = after
        return chosen if width >= height else (chosen[1], chosen[0])


def bucket_table(resolution: int, step: int, longest: int | None = None, engine: int = 2) -> BucketTable:
    """Buckets with the area of a square of side `resolution`. Sides are multiples of `step` and at most `longest`. `engine` is that of a run."""
    if engine < 2:
        return BucketTable(_first_table(resolution, step), engine)
    # In steps from here on.
    side = Fraction(resolution, step)
    square = (max(1, round(side)),) * 2
    sizes: dict[Size, None] = {square: None}
    most_area = MOST_AREA * (side if side > square[0] else square[0]) ** 2
    for ratio in RATIOS[1:]:
        fitting = [size for size in _around(side, ratio) if size[0] * size[1] <= most_area and size[1] <= RATIOS[-1] * size[0]]
        if fitting:
            sizes[min(fitting, key=lambda size: _distance(size, side, ratio))] = None
    landscape = sorted(sizes, key=lambda size: Fraction(size[1], size[0]))
    in_pixels = [(short * step, long * step) for short, long in landscape if longest is None or long * step <= longest]
    in_pixels = in_pixels or [(square[0] * step, square[1] * step)]
    return BucketTable(tuple(size for pair in in_pixels for size in dict.fromkeys([pair, (pair[1], pair[0])])), engine)


def family_buckets(family: Family, base: BaseFolder, resolution: int, engine: int) -> BucketTable:
    """The buckets of a base at a resolution, in a run of this engine."""
    return bucket_table(resolution, family.bucket_step(base), family.longest_side(base), engine)


def cropped_share(size: Size, bucket: Size) -> float:
    """Part of an image's area that is cut off when it is scaled to cover its bucket; 0.5 is half."""
    one, other = size[0] * bucket[1], size[1] * bucket[0]
    return 1 - min(one, other) / max(one, other)


def enlargement(size: Size, bucket: Size) -> float:
    """Factor by which an image is scaled to cover its bucket."""
    return max(bucket[0] / size[0], bucket[1] / size[1])


def _around(side: Fraction, ratio: Fraction) -> Iterator[Size]:
    """The sizes, at most four, around the exact one of this ratio with the area of a square of this side."""
    short, long = math.isqrt(math.floor(side**2 / ratio)), math.isqrt(math.floor(side**2 * ratio))
    for height in (max(1, short), short + 1):
        for width in (max(1, long), long + 1):
            if height <= width:
                yield height, width


def _distance(size: Size, side: Fraction, ratio: Fraction) -> Fraction:
    """How far a size is from the ratio and from the square's area: the product of the two factors, 1 for neither. The ratio counts twice, because
    a wrong one crops."""
    height, width = size
    return _factor(height * width / side**2) * _factor(Fraction(width, height) / ratio) ** 2


def _factor(share: Fraction) -> Fraction:
    return max(share, 1 / share)


def _first_table(resolution: int, step: int) -> tuple[Size, ...]:
    """The table of engine 1, in the order and with the arithmetic of diffusers' generate_aspect_ratio_buckets."""
    sizes: dict[Size, None] = {}
    for wide, high in FIRST_RATIOS:
        height = (resolution * resolution / (wide / high)) ** 0.5
        width = height * (wide / high)
        sizes[max(step, round(height / step) * step), max(step, round(width / step) * step)] = None
    return tuple(sizes)


def _nearest_by_difference(height: int, width: int, sizes: tuple[Size, ...]) -> Size:
    """As diffusers' find_nearest_bucket: of equally near ones the last."""
    return min(reversed(sizes), key=lambda size: abs(height * size[1] - width * size[0]))
