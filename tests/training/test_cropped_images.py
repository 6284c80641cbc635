"""Images cropped to their buckets: masks that leave nothing to train on, and the notes on them."""

import numpy
import pytest
from PIL import Image

from studio.benchmark.tiny import TinyDataset
from studio.core.errors import StudioError
from studio.runs.creation import create_run
from studio.training.checkpoints import Disk
from studio.training.loop import train
from tests.tiny import tiny_base, tiny_run  # noqa: F401 - fixtures


def masked_run(workspace, base, light: dict[int, slice], *overrides, sizes=((64, 640), (64, 64))):
    """A run whose masks are light in the rows `light` (index of the image -> rows), and white for other images."""
    dataset = TinyDataset(workspace.root / "pictures", count=4, sizes=sizes, masked=True)
    for index, image in enumerate(dataset.images):
        pixels = numpy.full((image.height, image.width), 0 if index in light else 255, numpy.uint8)
        pixels[light.get(index, slice(0))] = 255
        Image.fromarray(pixels).save(image.mask)
    return create_run(workspace, tiny_run(workspace, base, "samples.prompts=[]", *overrides).config, dataset)


def notes(run) -> list[str]:
    return [event["message"] for event in run.events()[0] if event["kind"] == "note"]


TOP = slice(0, 40)
"""Rows of an image of 64 x 640 that its bucket, of 4:1, cuts off."""


def test_an_image_whose_mask_is_light_only_outside_its_bucket_is_left_out_and_named(workspace, tiny_base):  # noqa: F811
    run = masked_run(workspace, tiny_base, {0: TOP})
    train(run, Disk())
    (note,) = [each for each in notes(run) if "mask" in each]
    assert "0.png" in note and "left out" in note and "2.png" not in note and all(event["loss"] > 0 for event in run.curve())


def test_cropped_images_are_named_at_the_start_of_a_run(workspace, tiny_base):  # noqa: F811
    run = masked_run(workspace, tiny_base, {}, "training.max_train_steps=1")
    train(run, Disk())
    assert any("0.png (60%), 2.png (60%)" in note for note in notes(run))


def test_a_run_whose_masks_leave_nothing_fails_and_names_the_images(workspace, tiny_base):  # noqa: F811
    run = masked_run(workspace, tiny_base, dict.fromkeys(range(4), TOP), sizes=((64, 640),))
    with pytest.raises(StudioError, match=r"0\.png, 1\.png, 2\.png and 1 more"):
        train(run, Disk())


def test_a_floor_above_zero_still_trains_the_dark_parts(workspace, tiny_base):  # noqa: F811
    run = masked_run(workspace, tiny_base, dict.fromkeys(range(4), TOP), "dataset.mask_floor=0.1", sizes=((64, 640),))
    train(run, Disk())
    assert run.state == "finished" and all(event["loss"] > 0 for event in run.curve())


def test_a_run_of_engine_1_keeps_such_an_image_and_says_that_it_teaches_nothing(workspace, tiny_base):  # noqa: F811
    run = masked_run(workspace, tiny_base, {0: TOP}, "runtime.engine=1", "training.max_train_steps=2")
    train(run, Disk())
    (note,) = [each for each in notes(run) if "mask" in each]
    assert "0.png" in note and "teaches nothing" in note
