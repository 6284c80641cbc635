"""Examples of a run: its images encoded at the size of their bucket, those set aside for validation, and notes on captions that are too long."""

import logging
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

from diffusers import DiffusionPipeline
from torch import Tensor

from studio.config import TrainConfig
from studio.config.dataset import DatasetConfig
from studio.config.runtime import ENGINE
from studio.core.errors import StudioError
from studio.datasets.buckets import family_buckets
from studio.datasets.image_notes import NotedImage, image_notes, named
from studio.families.base import Family
from studio.families.facts import BaseFolder
from studio.runs.run import Run
from studio.training.distributed import ProcessGroup
from studio.training.encoding_cache import Encodings, read_mask
from studio.training.rng import Purpose, make_rng

log = logging.getLogger(__name__)

PROGRESS_SECONDS = 0.5


@dataclass(frozen=True)
class Example:
    """One image with its caption: mean and std of its latents, loss mask, and the same mirrored. `bucket` is (height, width) in pixels."""

    bucket: tuple[int, int]
    mean_CHW: Tensor
    std_CHW: Tensor
    caption: str
    mask_1HW: Tensor | None = None
    mirrored: "Example | None" = None

    @property
    def teaches(self) -> bool:
        """Whether its mask, if it has one, has any light part left in the bucket."""
        return self.mask_1HW is None or bool(self.mask_1HW.any())


def load_examples(
    images: list[dict],
    folder: Path,
    config: DatasetConfig,
    encodings: Encodings,
    should_stop: Callable[[], bool],
    on_progress: Callable[[int, int], None],
    engine: int = ENGINE,
) -> list[Example] | None:
    """Encode the images of a snapshot. `should_stop()` is called before each image, True returns None; `on_progress(done, total)` after each.

    An image whose mask has no light part in its bucket is left out. A run of engine 1 keeps it, since its order of images was drawn with it.
    """
    base, family = encodings.base, encodings.family
    table = family_buckets(family, base, config.resolution, engine)
    examples, dark = [], []
    for done, image in enumerate(images, 1):
        if should_stop():
            return None
        size = table.nearest(image["height"], image["width"])
        example = _example(image, folder, size, config, encodings, mirror=False)
        if not example.teaches:
            dark.append(image)
        if example.teaches or engine < 2:
            if config.flip:
                example = replace(example, mirrored=_example(image, folder, size, config, encodings, mirror=True))
            examples.append(example)
        on_progress(done, len(images))
    if dark:
        encodings.notes.append(_dark_note(dark, left_out=engine >= 2))
    return examples


def check_masks(examples: list[Example], images: list[dict]) -> None:
    """StudioError if nothing is left to train on: all these images were left out, or their examples teach nothing."""
    if not any(example.teaches for example in examples):
        raise StudioError(
            f"No image has anything to train on: the light part of every mask lies outside the crop to the bucket, in {named(names(images))}. "
            "Crop these images, enlarge or remove their masks, or switch off “Masked training”."
        )


def size_notes(images: list[dict], config: TrainConfig, base: BaseFolder, family: Family) -> list[str]:
    """Notes on images of the snapshot that the run crops, enlarges, or may not use."""
    table = family_buckets(family, base, config.dataset.resolution, config.runtime.filled_engine)
    noted = [NotedImage(name, image["height"], image["width"]) for name, image in zip(names(images), images)]
    return image_notes(noted, table, config.training.max_train_steps * config.training.gradient_accumulation_steps)


def names(images: list[dict]) -> list[str]:
    """Names of a snapshot's images; earlier runs have only their files, named by a hash."""
    return [image.get("name") or image["file"][:12] for image in images]


def _dark_note(images: list[dict], left_out: bool) -> str:
    several = len(images) > 1
    outcome = ("are" if several else "is") + " left out" if left_out else f"teach{'' if several else 'es'} nothing"
    return (
        f"{f'{len(images)} images' if several else '1 image'} {outcome}, because the light part of the mask lies outside the crop to the bucket: "
        f"{named(names(images))}. Crop {'them' if several else 'it'} yourself, or enlarge or remove the mask{'s' if several else ''}."
    )


def _example(image: dict, folder: Path, size: tuple[int, int], config: DatasetConfig, encodings: Encodings, mirror: bool) -> Example:
    mean_CHW, std_CHW = encodings.latents(folder / image["file"], image["sha256"], size, mirror)
    mask = None
    if config.masks and image.get("mask"):
        height, width = mean_CHW.shape[1:]
        mask = read_mask(folder / image["mask"], size, (height, width), mirror, config.mask_floor)
    return Example(size, mean_CHW, std_CHW, image["caption"], mask)


def split_validation(images: list[dict], count: int, seed: int) -> tuple[list[dict], list[dict]]:
    """(training images, validation images): `count` validation images chosen by the seed, at least one image is left for training."""
    order = make_rng(Purpose.VALIDATION_SPLIT, seed, 0).permutation(len(images)).tolist()
    chosen = set(order[: min(count, len(images) - 1)])
    return [image for i, image in enumerate(images) if i not in chosen], [image for i, image in enumerate(images) if i in chosen]


def encode_images(run: Run, encodings: Encodings, config: TrainConfig, images: list[dict], group: ProcessGroup) -> list[Example] | None:
    """Images of the snapshot as examples; None if a stop was requested. The main process encodes, the others then read its cache."""
    reported = time.monotonic()

    def report(done: int, count: int) -> None:
        nonlocal reported
        if time.monotonic() - reported > PROGRESS_SECONDS:
            reported = time.monotonic()
            run.append({"kind": "encoding", "done": done, "total": count})

    if not group.is_main:
        group.barrier()
        if group.broadcast(0):
            return None
    folder = run.dataset_dir / "pictures"
    should_stop = (lambda: run.stop_requested) if group.is_main else (lambda: False)
    on_progress = report if group.is_main else (lambda done, count: None)
    examples = load_examples(images, folder, config.dataset, encodings, should_stop, on_progress, config.runtime.filled_engine)
    if group.is_main:
        group.barrier()
        group.broadcast(int(examples is None))
    return examples


def truncation_notes(family: Family, pipeline: DiffusionPipeline, captions: list[str]) -> list[str]:
    """A note if captions are longer than the context of the text encoders, with the truncated text of the first; otherwise empty."""
    truncated = {caption: text for caption in captions if (text := family.truncated_text(pipeline, caption))}
    if not truncated:
        return []
    log.warning("%d of %d captions are too long for this base; the end is ignored", len(truncated), len(captions))
    text = next(iter(truncated.values()))
    return [f"{len(truncated)} of {len(captions)} captions are too long for this base; the end is ignored, in the first one: “{text}”."]
