"""Grid of a dataset's images with editable captions, saved while typing."""

from dataclasses import dataclass

from studio.core.wording import counted
from studio.datasets.captioners import CAPTIONERS
from studio.datasets.dataset import Dataset, DatasetImage
from studio.ui import files
from studio.ui.components import mask_view
from studio.ui.components.html import empty
from studio.ui.components.templates import render

SOURCES = {"hand": "by hand", "file": "from your file", "sample": "from the samples", "": ""}
MAX_REFUSED_SHOWN = 50


@dataclass(frozen=True)
class Card:
    """An image as the grid shows it; `thumb`, `image` and `mask` are URLs."""

    dataset: str
    id: str
    name: str
    caption: str
    source: str
    thumb: str
    image: str
    mask: str
    can_restore_mask: bool


def grid(dataset: Dataset | None) -> str:
    """One card per image: the image, its caption, who wrote it, a mask and a button that removes it."""
    if dataset is None:
        return ""
    if not dataset.images:
        return empty(
            "No images yet",
            "Drop 10 to 50 images here, or press Add images. A .txt file with the same name becomes the caption, and a greyscale "
            "name-mask.png becomes the mask of name.png: only its light parts are trained on. A .zip may contain all of them.",
        )
    # Read before the images, so that a change meanwhile is found by the next look at the version.
    version = dataset.version
    return render("caption_grid", "grid", dataset.id, version, [_card(dataset, image) for image in dataset.images])


def _card(dataset: Dataset, image: DatasetImage) -> Card:
    source = written_by(image.caption_source)
    if not image.caption and image.caption_source in CAPTIONERS:
        source = f"The {_captioner(image.caption_source)} captioner does not know this image"
    thumb, full = (files.url(size, dataset.id, image.id) for size in ("thumb", "picture"))
    mask = files.url("mask", dataset.id, image.mask.stem) if image.mask else ""
    return Card(dataset.id, image.id, image.name, image.caption, source, thumb, full, mask, image.mask_can_undo)


def written_by(source: str) -> str:
    """The source of a caption in words."""
    return SOURCES.get(source, f"by {_captioner(source)}")


def _captioner(name: str) -> str:
    return CAPTIONERS[name].title if name in CAPTIONERS else name


def summary(dataset: Dataset) -> str:
    """Counts: images, missing captions, captions without the trigger word, masks."""
    images = dataset.images
    if not images:
        return ""
    uncaptioned = sum(1 for image in images if not image.caption.strip())
    word = dataset.trigger_word
    without = len(dataset.lacking_trigger)
    parts = [counted(len(images), "image")]
    parts.append(f"{uncaptioned} without a caption" if uncaptioned else "all captioned")
    if word and (without or not uncaptioned):
        parts.append(f"{counted(without, 'caption')} {'lacks' if without == 1 else 'lack'} “{word}”" if without else f"“{word}” is in every caption")
    put = f"Put “{word}” into {'it' if without == 1 else 'them'}" if without else ""
    return render("caption_grid", "summary", ", ".join(parts), put, mask_view.describe(images))


def refusals(refused: list[dict[str, str]], added: int) -> str:
    """Files that could not be used, each with its reason; `added` counts the others."""
    if not refused:
        return ""
    message = f"{counted(len(refused), 'file')} could not be used; {'the others were added' if added else 'nothing was added'}."
    reasons = [each["reason"] for each in refused[:MAX_REFUSED_SHOWN]]
    return render("caption_grid", "refusals", message, reasons, max(0, len(refused) - MAX_REFUSED_SHOWN))
