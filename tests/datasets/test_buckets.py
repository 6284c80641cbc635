"""Aspect-ratio buckets: the table of new runs, and that of engine 1 against diffusers."""

import itertools
import math
import subprocess
import sys

import pytest
from diffusers.training_utils import find_nearest_bucket, generate_aspect_ratio_buckets

from studio import families
from studio.benchmark.models import save_tiny
from studio.datasets.buckets import bucket_table, cropped_share, enlargement
from studio.families import resolve_base

COMMON = [(512, 64), (768, 64), (1024, 64), (1024, 32), (1024, 16), (2048, 16)]
"""Resolution and step of the listed bases."""
EVERY = list(itertools.product((64, 72, 96, 128, 256, 512, 520, 768, 1024, 1536, 2048), (8, 16, 32, 64)))


@pytest.mark.parametrize(("resolution", "step"), EVERY)
def test_engine_1_has_the_table_of_diffusers(resolution, step):
    table, theirs = bucket_table(resolution, step, engine=1), generate_aspect_ratio_buckets(resolution, divisibility=step)
    assert list(table.sizes) == theirs
    for height, width in itertools.product(range(50, 1500, 97), range(50, 1500, 83)):
        assert table.nearest(height, width) == theirs[find_nearest_bucket(height, width, theirs)]


@pytest.mark.parametrize(("resolution", "step"), COMMON)
def test_an_image_of_four_to_one_keeps_its_whole_area(resolution, step):
    table = bucket_table(resolution, step)
    assert cropped_share((512, 2048), table.nearest(512, 2048)) < 0.01 and cropped_share((2048, 512), table.nearest(2048, 512)) < 0.01


@pytest.mark.parametrize(("resolution", "step"), COMMON)
def test_images_up_to_four_to_one_lose_little(resolution, step):
    table = bucket_table(resolution, step)
    widest = max(cropped_share((1000, width), table.nearest(1000, width)) for width in range(1000, 4001))
    assert widest < (0.12 if step == 64 else 0.112)
    for height, width in ((1000, 1250), (3000, 4000), (2000, 3000), (1080, 1920), (1000, 2000), (1080, 2520), (1000, 3000)):
        assert cropped_share((height, width), table.nearest(height, width)) < (0.115 if step == 64 else 0.075), (height, width)


@pytest.mark.parametrize(("resolution", "step"), EVERY)
def test_buckets_are_symmetric_multiples_of_the_step_with_about_the_same_area(resolution, step):
    table = bucket_table(resolution, step)
    assert {(width, height) for height, width in table.sizes} == set(table.sizes) and len(table.sizes) == len(set(table.sizes)) <= 19
    square = max(table.sizes[0][0], resolution) ** 2
    for height, width in table.sizes:
        assert height % step == width % step == 0 and height * width <= 1.125 * square and max(height, width) <= 4 * min(height, width)
    for height, width in itertools.product(range(40, 1500, 97), range(40, 1500, 83)):
        high, wide = table.nearest(height, width)
        assert table.nearest(width, height) == (wide, high) or height == width
        distance = {size: abs(math.log(width / height * size[0] / size[1])) for size in table.sizes}
        assert distance[high, wide] <= min(distance.values()) + 1e-12


def test_areas_differ_by_a_tenth_where_the_step_is_small():
    for resolution, step in ((1024, 16), (1024, 32), (512, 16)):
        areas = [height * width / resolution**2 for height, width in bucket_table(resolution, step).sizes]
        assert 0.9 < min(areas) <= max(areas) < 1.1


def test_no_bucket_is_longer_than_the_positions_of_the_base():
    assert max(max(size) for size in bucket_table(2048, 16, 3072).sizes) <= 3072 < max(max(size) for size in bucket_table(2048, 16).sizes)
    assert bucket_table(1024, 16, 512).sizes == ((1024, 1024),)


@pytest.mark.parametrize("family", families.FAMILIES, ids=lambda family: family.name)
def test_the_longest_side_is_that_of_the_position_table(family, tmp_path):
    base = resolve_base(str(save_tiny(family, tmp_path / family.name)))
    assert family.longest_side(base) == (16 * 16 if family.name == "sd3" else None)


def test_what_an_image_loses_and_how_much_it_is_enlarged():
    assert cropped_share((100, 400), (512, 1024)) == pytest.approx(0.5) and cropped_share((64, 64), (512, 512)) == 0
    assert enlargement((256, 512), (512, 512)) == 2 and enlargement((1024, 4096), (512, 512)) == 0.5


def test_the_table_needs_neither_torch_nor_diffusers():
    program = "import sys, studio.datasets.buckets; print(sorted({'torch', 'diffusers'} & set(sys.modules)))"
    assert subprocess.run([sys.executable, "-c", program], capture_output=True, text=True).stdout == "[]\n"
