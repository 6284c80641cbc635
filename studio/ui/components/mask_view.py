"""Masks under Images & captions: the untrained parts of an image are dimmed; a mask can be added, removed and restored."""

from collections.abc import Sequence

from studio.core.wording import counted
from studio.datasets.dataset import DatasetImage

EVENTS = ("add_mask", "remove_mask", "restore_mask")
MEANING = "Only the light parts are trained on"


def describe(images: Sequence[DatasetImage]) -> str:
    """How many images have a mask; empty when none has."""
    masked = sum(1 for image in images if image.mask)
    if not masked:
        return ""
    if masked == len(images):
        return f"Every image has a mask. {MEANING}."
    return f"{masked} of {counted(len(images), 'image')} {'has' if masked == 1 else 'have'} a mask; the others are trained on in full."
