"""The sample sets a person's first LoRA is made from."""

import pytest
from PIL import Image

from studio.builtin import SAMPLES, TRIGGER_WORDS
from studio.making import samples

COUNTS = {"style": 16, "character": 20}


@pytest.mark.parametrize("name", COUNTS)
def test_every_sample_image_has_its_caption_with_the_trigger_word(name):
    images = sorted(SAMPLES[name].glob("*.png"))
    assert len(images) == COUNTS[name]
    for path in images:
        with Image.open(path) as image:
            assert image.size == (128, 128) and image.mode == "RGB"
        assert TRIGGER_WORDS[name] in path.with_suffix(".txt").read_text(encoding="utf-8").split()


@pytest.mark.parametrize("name", COUNTS)
def test_the_shipped_captions_are_the_ones_the_code_writes(name):
    shipped = [path.read_text(encoding="utf-8").strip() for path in sorted(SAMPLES[name].glob("*.txt"))]
    assert shipped == [each.caption for each in samples.SETS[name]()]


def test_the_ink_style_has_no_colour():
    for each in samples.style(4):
        red, _, blue = each.image.resize((1, 1), Image.Resampling.BOX).getpixel((0, 0))
        assert abs(red - blue) < 40


def test_unseen_prompts_are_in_no_sample_set():
    captions = {each.caption for make in samples.SETS.values() for each in make()}
    assert not captions & {prompt for prompts in samples.UNSEEN.values() for prompt in prompts}
