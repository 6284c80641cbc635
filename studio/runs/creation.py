"""New runs: of a dataset as it is now, or of the images and captions of an earlier run. No torch."""

import json
import os
import shutil
import time
from pathlib import Path

from studio import config as configs
from studio.config import TrainConfig
from studio.core.errors import StudioError
from studio.core.workspace import Workspace, new_id, write_atomically
from studio.datasets.dataset import Dataset
from studio.datasets.importing.mask_names import mask_name
from studio.families import bases
from studio.runs import library
from studio.runs.run import Run


def create_run(workspace: Workspace, config: TrainConfig, dataset: Dataset, title: str = "") -> Run:
    """Write the config and a snapshot of the dataset; later edits of the dataset do not reach this run."""
    images = dataset.images
    if not images:
        raise StudioError(f"The dataset {dataset.title!r} has no pictures; add 10 to 50 under Pictures & captions.")
    bare = sum(1 for image in images if not image.caption.strip())
    if bare:
        raise StudioError(f"{bare} of {len(images)} pictures have no caption; write them under Pictures & captions (one click), then start.")
    start = _start_file(workspace, config)
    run = _empty_run(workspace, title or config.dataset.trigger_word or dataset.title)
    listing = []
    for image in images:
        name = f"{image.id}.png"
        _link_or_copy(image.file, run.dataset_dir / "pictures" / name)
        listing.append({"sha256": image.id, "file": name, "caption": image.caption, "width": image.width, "height": image.height})
        if image.mask:
            listing[-1]["mask"] = mask_name(image.id)
            _link_or_copy(image.mask, run.dataset_dir / "pictures" / mask_name(image.id))
    snapshot = {
        "title": title or dataset.title,
        "dataset": dataset.id,
        "dataset_title": dataset.title,
        "sha256": dataset.sha256(),
        "subject": dataset.subject,
        "real_person": dataset.real_person,
        "consent": dataset.consent,
        "pictures": sorted(listing, key=lambda item: item["sha256"]),
        "created": time.time(),
    }
    _write(run, config, snapshot, start)
    return run


def repeat_run(earlier: Run, workspace: Workspace, config: TrainConfig, title: str) -> Run:
    """A new run with these settings and the images and captions that `earlier` was trained on."""
    same = config.lora.start_from and config.lora.start_from == earlier.config.lora.start_from
    start = earlier.start_file if same else _start_file(workspace, config)
    run = _empty_run(workspace, title)
    for file in earlier.dataset_dir.rglob("*"):
        if file.is_file() and file.name != "dataset.json":
            target = run.dataset_dir / file.relative_to(earlier.dataset_dir)
            target.parent.mkdir(parents=True, exist_ok=True)
            _link_or_copy(file, target)
    _write(run, config, {**earlier.snapshot, "title": title, "created": time.time()}, start)
    return run


def _empty_run(workspace: Workspace, title: str) -> Run:
    run = Run(workspace.run_path(new_id(title)))
    for folder in (run.dataset_dir / "pictures", run.samples_dir, run.checkpoints_dir, run.adapters_dir):
        folder.mkdir(parents=True)
    return run


def _write(run: Run, config: TrainConfig, snapshot: dict, start: Path | None) -> None:
    """The config last: a folder without one is not a run yet."""
    if start:
        # A copy with bytes of its own: the file of another run can be trained over.
        write_atomically(run.start_file, start.read_bytes())
    write_atomically(run.dataset_dir / "dataset.json", json.dumps(snapshot, indent=1, sort_keys=True).encode())
    write_atomically(run.path / "asked.json", configs.dump(config))
    run.write_config(config)


def _start_file(workspace: Workspace, config: TrainConfig) -> Path | None:
    """The file of the LoRA that a new run starts from; StudioError when it is gone, or has another shape than this run's LoRA."""
    lora = config.lora
    if not lora.start_from:
        return None
    card = library.find(workspace, lora.start_from)
    if bases.get_base(config.model.base_model, config.model.revision).fits(card.family, card.width) is False:
        raise StudioError(f"{card.title} was trained for another kind of base; choose that base, or another LoRA to start from.")
    if card.rank != lora.rank:
        raise StudioError(f"{card.title} has rank {card.rank} and this run {lora.rank}; choose rank {card.rank} to go on from it, or start fresh.")
    return card.path


def _link_or_copy(source: Path, target: Path) -> None:
    """Images are never edited in place, so a second name for the same bytes is a safe copy; some disks refuse links."""
    try:
        os.link(source, target)
    except OSError:
        shutil.copyfile(source, target)
