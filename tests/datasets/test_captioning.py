"""Captioning of a dataset: which captions are written and which stay."""

import pytest

from studio.datasets.captioners.base import Captioner
from studio.datasets.captioning import caption_dataset
from studio.jobs.progress import Cancelled
from tests.trained import captioned_dataset


class Quiet:
    """A progress report that is discarded; it cancels the job once `after` images are done."""

    def __init__(self, after=10**9):
        self.calls, self.after = [], after

    def __call__(self, done, total, message=""):
        self.calls.append((done, total))
        if done >= self.after:
            raise Cancelled


class Parrot(Captioner):
    """Says how many pictures it has seen; what is tested is what becomes of its words."""

    def __init__(self, batch_size):
        self.batch_size, self.seen = batch_size, 0

    def describe(self, pictures):
        self.seen += len(pictures)
        return [f"picture {self.seen - len(pictures) + n + 1}" for n in range(len(pictures))]


def counts(**others) -> dict:
    return {"captioned": 0, "kept": 0, "failed": 0, "unknown": 0, "shortened": 0} | others


@pytest.fixture
def dataset(workspace):
    dataset = captioned_dataset(workspace, "style", "")
    for picture, (text, source) in zip(dataset.images, [("mine", "hand"), ("", "hand"), ("", "hand")], strict=True):
        dataset.set_caption(picture.id, text, source)
    dataset.set_caption(dataset.images[2].id, "an older machine's", "blip-large")
    return dataset


def test_only_empty_captions_are_filled_and_hand_made_ones_always_stay(dataset):
    assert caption_dataset(dataset, "blip", Parrot(2), True, Quiet()) == counts(captioned=1, kept=2)
    assert [p.caption for p in dataset.images] == ["mine", "picture 1", "an older machine's"]
    assert caption_dataset(dataset, "florence-2", Parrot(2), False, Quiet()) == counts(captioned=2, kept=1)
    assert [p.caption for p in dataset.images] == ["mine", "picture 1", "picture 2"]
    assert [p.caption_source for p in dataset.images] == ["hand", "florence-2", "florence-2"]


def test_a_stopped_captioning_keeps_what_it_wrote(dataset):
    with pytest.raises(Cancelled):
        caption_dataset(dataset, "blip", Parrot(1), False, Quiet(after=1))
    assert [p.caption for p in dataset.images] == ["mine", "picture 1", "an older machine's"]


def test_what_a_person_types_while_the_captioner_looks_wins(dataset):
    class Slow(Parrot):
        def describe(self, pictures):
            dataset.set_caption(dataset.images[1].id, "typed just now", "hand")
            return super().describe(pictures)

    assert caption_dataset(dataset, "blip", Slow(4), True, Quiet()) == counts(kept=3)
    assert dataset.images[1].caption == "typed just now"


def test_a_picture_file_that_was_lost_does_not_stop_the_others(dataset):
    dataset.images[1].file.unlink()
    assert caption_dataset(dataset, "blip", Parrot(4), False, Quiet())["failed"] == 1
    assert dataset.images[2].caption == "picture 1"


def test_an_image_that_the_captioner_does_not_know_is_left_empty_and_a_loop_is_shortened(dataset):
    class Narrow(Parrot):
        def __init__(self, *texts):
            super().__init__(2)
            self.texts = list(texts)

        def describe(self, pictures):
            return self.texts

    assert caption_dataset(dataset, "blip-large", Narrow("", "a large large large cat"), False, Quiet()) == counts(
        captioned=1, kept=1, unknown=1, shortened=1
    )
    assert [(p.caption, p.caption_source) for p in dataset.images] == [("mine", "hand"), ("", "blip-large"), ("a large cat", "blip-large")]
    # A captioner that does not know an image discards its own caption, and no other.
    assert caption_dataset(dataset, "builtin", Narrow("", ""), False, Quiet())["unknown"] == 1
    assert dataset.images[2].caption == "a large cat"
