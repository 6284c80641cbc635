"""The summary of a dataset's captions."""

from studio.datasets.dataset import Dataset
from studio.ui.components import caption_grid


def test_a_trigger_word_before_a_comma_counts(workspace):
    dataset = Dataset.from_samples(workspace, "character")
    for image in dataset.images:
        dataset.set_caption(image.id, "sks, a small dog", "hand")
    assert "“sks” is in every caption" in caption_grid.summary(dataset)
    dataset.set_caption(dataset.images[0].id, "two desks", "hand")
    assert "1 caption lacks “sks”" in caption_grid.summary(dataset)
