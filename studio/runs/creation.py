"""Creation of runs: from a dataset, or with the images and captions of an earlier run. No torch."""

import itertools
import json
import os
import shutil
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Protocol

from studio import config as configs
from studio.config import TrainConfig
from studio.core.errors import StudioError
from studio.core.workspace import Workspace, copy_atomically, new_id, write_atomically
from studio.datasets.buckets import bucket_table
from studio.datasets.image_notes import NotedImage, image_notes
from studio.datasets.importing.mask_names import mask_name
from studio.families import bases
from studio.runs import library, marks
from studio.runs.run import Run

LONGEST_DATASET_TITLE = 60
"""Of an automatic name, in characters."""


class ImageFacts(Protocol):
    """The part of a dataset's image that a run keeps."""

    @property
    def id(self) -> str: ...
    @property
    def name(self) -> str: ...
    @property
    def file(self) -> Path: ...
    @property
    def caption(self) -> str: ...
    @property
    def width(self) -> int: ...
    @property
    def height(self) -> int: ...
    @property
    def mask(self) -> Path | None: ...


class DatasetFacts(Protocol):
    """The part of a dataset that a run keeps; benchmarks have one with images of noise."""

    @property
    def id(self) -> str: ...
    @property
    def title(self) -> str: ...
    @property
    def subject(self) -> str: ...
    @property
    def real_person(self) -> bool: ...
    @property
    def consent(self) -> dict | None: ...
    @property
    def images(self) -> Sequence[ImageFacts]: ...
    def sha256(self) -> str: ...


def create_run(workspace: Workspace, config: TrainConfig, dataset: DatasetFacts, title: str = "", note: str = "") -> Run:
    """Write the config and a snapshot of the dataset; later edits of the dataset do not affect this run.

    Without a title the run gets an automatic name, to which `note` is added: settings that distinguish it from others.
    """
    images = dataset.images
    if not images:
        raise StudioError(f"The dataset {dataset.title!r} has no images; add 10 to 50.")
    uncaptioned = sum(1 for image in images if not image.caption.strip())
    if uncaptioned:
        raise StudioError(
            f"{uncaptioned} of {len(images)} images have no caption; write them under Images & captions or with the command caption, then train."
        )
    if dataset.real_person and not dataset.consent:
        raise StudioError("These images show a real person. Confirm under Images & captions that this person agreed, then train.")
    start = _start_file(workspace, config)
    run = _empty_run(workspace, title or config.dataset.trigger_word or dataset.title)
    listing: list[dict[str, Any]] = []
    for image in images:
        name = f"{image.id}.png"
        _link_or_copy(image.file, run.dataset_dir / "pictures" / name)
        facts = {"caption": image.caption, "width": image.width, "height": image.height}
        listing.append({"sha256": image.id, "file": name, "name": image.name, **facts})
        if image.mask:
            listing[-1]["mask"] = mask_name(image.id)
            _link_or_copy(image.mask, run.dataset_dir / "pictures" / mask_name(image.id))
    created = time.time()
    snapshot = {
        "title": title or dataset.title,
        "dataset": dataset.id,
        "dataset_title": dataset.title,
        "sha256": dataset.sha256(),
        "subject": dataset.subject,
        "real_person": dataset.real_person,
        "consent": dataset.consent,
        "pictures": sorted(listing, key=lambda item: item["sha256"]),
        "created": created,
    }
    _write(workspace, run, config, snapshot, start, "" if title else automatic_name(dataset.title, config, created, note))
    return run


def automatic_name(dataset_title: str, config: TrainConfig, created: float, note: str = "") -> str:
    """Name of a run without a title: "Emoji · rank 16 · 1,500 steps · 27 Nov"."""
    date = time.localtime(created)
    steps = config.training.max_train_steps
    parts = [dataset_title[:LONGEST_DATASET_TITLE].strip(), f"rank {config.lora.rank}", f"{steps:,} step{'' if steps == 1 else 's'}"]
    return " · ".join([*parts, *([note] if note else []), f"{date.tm_mday} {time.strftime('%b', date)}"])


def dataset_notes(config: TrainConfig, images: Sequence[ImageFacts]) -> list[str]:
    """Notes on images that a run with these settings would crop, enlarge, or perhaps not use. Approximate while the base is not on this computer."""
    base = bases.get_base(config.model.base_model, config.model.revision)
    table = bucket_table(config.dataset.resolution, base.bucket_step, base.longest_side, config.runtime.filled_engine)
    noted = [NotedImage(image.name, image.height, image.width) for image in images]
    return image_notes(noted, table, config.training.max_train_steps * config.training.gradient_accumulation_steps)


def repeat_run(earlier: Run, workspace: Workspace, config: TrainConfig, title: str = "", note: str = "") -> Run:
    """A new run with these settings and the images and captions of `earlier`. Title and note as in `create_run`."""
    same = config.lora.start_from and config.lora.start_from == earlier.config.lora.start_from
    start = earlier.start_file if same else _start_file(workspace, config)
    run = _empty_run(workspace, title or earlier.short_title)
    for file in earlier.dataset_dir.rglob("*"):
        if file.is_file() and file.name != "dataset.json":
            target = run.dataset_dir / file.relative_to(earlier.dataset_dir)
            target.parent.mkdir(parents=True, exist_ok=True)
            _link_or_copy(file, target)
    snapshot = {**earlier.snapshot, "title": title or earlier.short_title, "created": time.time()}
    _write(workspace, run, config, snapshot, start, "" if title else automatic_name(snapshot["dataset_title"], config, snapshot["created"], note))
    return run


def _empty_run(workspace: Workspace, title: str) -> Run:
    run = Run(workspace.run_path(new_id(title)))
    for folder in (run.dataset_dir / "pictures", run.samples_dir, run.checkpoints_dir, run.adapters_dir):
        folder.mkdir(parents=True)
    return run


def _write(workspace: Workspace, run: Run, config: TrainConfig, snapshot: dict, start: Path | None, name: str) -> None:
    """Write config.json last: a folder without it does not count as a run. `name` is an automatic name; a number is added if it is taken."""
    if name:
        taken = {each.title for each in Run.all(workspace)}
        distinct = itertools.chain([name], (f"{name}, {number}" for number in itertools.count(2)))
        marks.change(run.path, name=next(each for each in distinct if each not in taken), automatic=True)
    if start:
        # A real copy, not a link: the file of another run can be overwritten by its training.
        copy_atomically(start, run.start_file)
    write_atomically(run.dataset_dir / "dataset.json", json.dumps(snapshot, indent=1, sort_keys=True).encode())
    write_atomically(run.path / "asked.json", configs.dump(config))
    run.write_config(config)


def _start_file(workspace: Workspace, config: TrainConfig) -> Path | None:
    """File of the LoRA that a new run starts from. StudioError if it does not exist, or its family, width or rank differs from this run's."""
    lora = config.lora
    if not lora.start_from:
        return None
    adapter = library.find(workspace, lora.start_from)
    if bases.get_base(config.model.base_model, config.model.revision).fits(adapter.family, adapter.width) is False:
        raise StudioError(f"{adapter.title} was trained for a base of another family or size; choose such a base, or another LoRA to start from.")
    if adapter.rank != lora.rank:
        raise StudioError(
            f"{adapter.title} has rank {adapter.rank}, and this run has rank {lora.rank}; set rank {adapter.rank}, or start without a LoRA."
        )
    return adapter.path


def _link_or_copy(source: Path, target: Path) -> None:
    """Hard link, or a copy on file systems without links. Safe, because images are never edited in place."""
    try:
        os.link(source, target)
    except OSError:
        shutil.copyfile(source, target)
