"""Notes on images that are cropped, enlarged or perhaps never used in a training, before it starts. No torch, no decoding."""

from collections.abc import Sequence

MOST_NAMES = 3
"""Images that a note names; the others are counted."""


def named(entries: Sequence[str]) -> str:
    """The first entries and the number of the others: "a.png, b.png, c.png and 4 more"."""
    shown = ", ".join(entries[:MOST_NAMES])
    return f"{shown} and {len(entries) - MOST_NAMES} more" if len(entries) > MOST_NAMES else shown
