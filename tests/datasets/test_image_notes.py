"""Notes on images before a training: cropped, enlarged, perhaps never used."""

import pytest

from studio.datasets.buckets import bucket_table
from studio.datasets.image_notes import NotedImage, image_notes

TABLE = bucket_table(512, 64)


def notes(*images: tuple[str, int, int], batches: int = 1000, table=TABLE) -> list[str]:
    return image_notes([NotedImage(name, height, width) for name, width, height in images], table, batches)


def test_images_that_fit_their_buckets_get_no_note():
    assert notes(("square.png", 512, 512), ("wide.png", 2048, 512), ("tall.png", 640, 960)) == []


def test_cropped_images_are_named_with_what_they_lose_the_worst_first():
    cropped = [(f"{number}.png", 512 * (number + 4), 512) for number in range(1, 6)]
    (note,) = notes(*cropped)
    assert note.startswith("5 images lose more than a tenth") and "5.png (56%), 4.png (50%), 3.png (43%) and 2 more." in note
    assert notes(("pano.png", 4096, 512))[0].startswith("1 image loses more than a tenth") and "pano.png (50%)" in notes(("pano.png", 4096, 512))[0]


def test_the_table_of_engine_1_crops_more():
    assert notes(("wide.png", 2048, 512), table=bucket_table(512, 64, engine=1)) == [
        "1 image loses more than a tenth of the area in the crop to the nearest training shape: wide.png (54%)."
    ]


def test_small_images_are_named_with_their_enlargement():
    (note,) = notes(("small.png", 128, 128), ("smaller.png", 100, 100), ("nearly.png", 480, 480))
    assert note.startswith("2 images are smaller") and "smaller.png (5.1 times), small.png (4.0 times)" in note


@pytest.mark.parametrize(("batches", "noted"), [(20, True), (21, False)])
def test_an_image_of_a_rare_shape_may_not_be_used_in_few_steps(batches, noted):
    images = [(f"{number}.png", 512, 512) for number in range(20)]
    found = notes(*images, ("portrait.png", 448, 576), batches=batches)
    assert len(found) == noted and all("1 image has a rare shape" in note and "portrait.png" in note for note in found)
