"""What a picture's card shows of its mask: the parts that do not teach, dimmed; a mask brought, taken off, or put back."""

from studio.datasets.dataset import DatasetImage
from studio.ui.components.html import counted

EVENTS = ("give_mask", "take_mask_off", "put_mask_back")
MEANING = "Only the light parts teach"


def finding(pictures: list[DatasetImage]) -> str:
    """How many pictures have a mask, in words; nothing when none has."""
    masked = sum(1 for picture in pictures if picture.mask)
    if not masked:
        return ""
    if masked == len(pictures):
        return f"Every picture has a mask. {MEANING}."
    return f"{masked} of {counted(len(pictures), 'picture')} {'has' if masked == 1 else 'have'} a mask: the others teach as a whole."
