"""Pictures with their captions beside them, edited in place and saved while typed."""

from dataclasses import dataclass

from studio.datasets.captioners import CAPTIONERS
from studio.datasets.dataset import Dataset, DatasetImage
from studio.datasets.trigger_words import has_word
from studio.ui import files
from studio.ui.components import mask_view
from studio.ui.components.html import counted, empty
from studio.ui.components.templates import render

SOURCES = {"hand": "by hand", "file": "from your file", "sample": "from the samples", "": ""}
SHOWN = 50
"""Of the files that could not be used."""


@dataclass(frozen=True)
class Card:
    """A picture as the grid shows it; `mask` is an address."""

    dataset: str
    id: str
    name: str
    caption: str
    source: str
    thumb: str
    mask: str
    mask_can_go_back: bool


def grid(dataset: Dataset | None) -> str:
    """One card a picture: the picture, its caption, who wrote it, and a way to take it out."""
    if dataset is None:
        return ""
    pictures = dataset.images
    if not pictures:
        return empty(
            "No pictures yet",
            "Drop 10 to 50 pictures here, or press Add pictures. A .txt file with the same name becomes the caption, a grey "
            "name-mask.png the mask of name.png: only the light parts teach. A .zip may hold them all.",
        )
    return render("caption_grid", "grid", [_card(dataset, picture) for picture in pictures])


def _card(dataset: Dataset, picture: DatasetImage) -> Card:
    source = SOURCES.get(picture.caption_source, f"by {_captioner(picture.caption_source)}")
    thumb = files.url("thumb", dataset.id, picture.id)
    mask = files.url("mask", dataset.id, picture.mask.stem) if picture.mask else ""
    return Card(dataset.id, picture.id, picture.name, picture.caption, source, thumb, mask, picture.mask_can_undo)


def _captioner(name: str) -> str:
    return CAPTIONERS[name].title if name in CAPTIONERS else name


def summary(dataset: Dataset) -> str:
    """Counts in words: pictures, captions missing, where the trigger word is missing."""
    pictures = dataset.images
    if not pictures:
        return ""
    bare = sum(1 for p in pictures if not p.caption.strip())
    word = dataset.trigger_word
    without = sum(1 for p in pictures if p.caption.strip() and not has_word(p.caption, word)) if word else 0
    parts = [counted(len(pictures), "picture")]
    parts.append(f"{bare} without a caption" if bare else "all captioned")
    if word and not bare:
        parts.append(f"{counted(without, 'caption')} {'lacks' if without == 1 else 'lack'} “{word}”" if without else f"“{word}” is in every caption")
    return render("caption_grid", "summary", ", ".join(parts), mask_view.finding(pictures))


def refusals(refused: list[dict], came_in: int) -> str:
    """Files that could not be used, each with its reason; `came_in` counts those that could."""
    if not refused:
        return ""
    words = f"{counted(len(refused), 'file')} could not be used; {'the others are in' if came_in else 'nothing was added'}."
    return render("caption_grid", "refusals", words, [each["reason"] for each in refused[:SHOWN]], max(0, len(refused) - SHOWN))
