"""Captioning of a dataset by a loaded captioner."""

from typing import TYPE_CHECKING

from studio.datasets.captioners.base import Captioner, without_loops
from studio.datasets.captions import KEPT_SOURCES
from studio.datasets.dataset import Dataset, DatasetImage
from studio.datasets.trigger_words import add_trigger

if TYPE_CHECKING:
    from studio.jobs.progress import ProgressReporter


def caption_dataset(dataset: Dataset, name: str, captioner: Captioner, only_empty: bool, report: "ProgressReporter", class_noun: str = "") -> dict:
    """Caption a dataset's images; each caption is saved as it comes, so that a stop or crash loses none. {"captioned", "kept", "failed",
    "unknown", "shortened"}.

    An image that the captioner does not know is left empty, and a caption that repeats itself is shortened; both are counted.
    Typed and imported captions are never overwritten; `only_empty` also keeps those of other captioners.
    """
    from PIL import Image

    images = dataset.images
    todo = [p for p in images if not p.caption or (not only_empty and p.caption_source not in KEPT_SOURCES)]
    written = failed = unknown = shortened = 0
    subject, trigger_word = dataset.subject, dataset.trigger_word
    for start in range(0, len(todo), captioner.batch_size):
        report(start, len(todo), "Captioning images")
        batch: list[tuple[DatasetImage, Image.Image]] = []
        for image in todo[start : start + captioner.batch_size]:
            try:
                # The studio's canonical PNG, written by the decoder.
                with Image.open(image.file, formats=["PNG"]) as opened:
                    batch.append((image, opened.convert("RGB")))
            except OSError:
                failed += 1
        captions = captioner.describe([pixels for _, pixels in batch]) if batch else []
        for (image, _), caption in zip(batch, captions, strict=True):
            text = without_loops(caption)
            if not text:
                unknown += dataset.leave_uncaptioned(image.id, name)
                continue
            text = add_trigger(text, trigger_word, subject, image.looks_like_photo, class_noun)
            changed = dataset.set_caption(image.id, text, name)
            written += changed
            shortened += changed and without_loops(caption) != caption
    report(len(todo), len(todo), "Done")
    kept = len(images) - written - failed - unknown
    return {"captioned": written, "kept": kept, "failed": failed, "unknown": unknown, "shortened": shortened}
