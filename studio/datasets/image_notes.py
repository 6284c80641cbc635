"""Notes on images that are cropped, enlarged or perhaps never used in a training, before it starts. No torch, no decoding."""

from collections.abc import Sequence
from dataclasses import dataclass

from studio.datasets.buckets import BucketTable, Size, cropped_share, enlargement

MOST_CROPPED = 0.1
"""Part of an image's area whose loss is not noted: about what an image between two buckets loses at most."""
MOST_ENLARGED = 1.1
"""Enlargement that is not noted."""
MOST_NAMES = 3
"""Images that a note names; the others are counted."""


@dataclass(frozen=True)
class NotedImage:
    """An image before its training."""

    name: str
    height: int
    width: int


def image_notes(images: Sequence[NotedImage], table: BucketTable, batches: int) -> list[str]:
    """A line each on images that lose part of their area, are enlarged, or may not be used in a training of so many batches; the worst first."""
    cropped: list[tuple[float, str]] = []
    enlarged: list[tuple[float, str]] = []
    members: dict[Size, list[str]] = {}
    for image in images:
        size = image.height, image.width
        bucket = table.nearest(*size)
        members.setdefault(bucket, []).append(image.name)
        if (share := cropped_share(size, bucket)) > MOST_CROPPED:
            cropped.append((share, f"{image.name} ({share:.0%})"))
        if (factor := enlargement(size, bucket)) > MOST_ENLARGED:
            enlarged.append((factor, f"{image.name} ({factor:.1f} times)"))
    # A bucket has a batch for each of its images in as many batches as there are images.
    rare = [name for names in members.values() if batches * len(names) < len(images) for name in names]
    notes = []
    if cropped:
        notes.append(
            f"{_images(len(cropped), 'loses', 'lose')} more than a tenth of the area in the crop to the nearest training shape: {_worst(cropped)}."
        )
    if enlarged:
        advice = "Enlarging adds no detail: a lower resolution or larger images train sharper."
        notes.append(f"{_images(len(enlarged), 'is', 'are')} smaller than the training size and enlarged: {_worst(enlarged)}. {advice}")
    if rare:
        advice = "Train more steps, or with a smaller batch."
        notes.append(f"{_images(len(rare), 'has', 'have')} a rare shape and may not be used in so few steps: {named(rare)}. {advice}")
    return notes


def _images(count: int, one: str, several: str) -> str:
    return f"1 image {one}" if count == 1 else f"{count} images {several}"


def _worst(measured: list[tuple[float, str]]) -> str:
    return named([text for _, text in sorted(measured, key=lambda each: -each[0])])


def named(entries: Sequence[str]) -> str:
    """The first entries and the number of the others: "a.png, b.png, c.png and 4 more"."""
    shown = ", ".join(entries[:MOST_NAMES])
    return f"{shown} and {len(entries) - MOST_NAMES} more" if len(entries) > MOST_NAMES else shown
