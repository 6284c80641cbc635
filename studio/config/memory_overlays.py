"""Memory overlays: presets/memory-<n>gb.toml, settings that make a base fit a GPU of that size, applied on top of any preset."""

import functools
import math
import tomllib
from collections.abc import Collection
from dataclasses import dataclass, field
from pathlib import Path

from studio.config import fields
from studio.config.train_config import TrainConfig
from studio.core.errors import StudioError

PRESETS_DIR = Path(__file__).parents[2] / "presets"
PREFIX = "memory-"
OWNED = (
    "runtime.gradient_checkpointing",
    "runtime.quantisation",
    "runtime.offload",
    "training.train_batch_size",
    "training.gradient_accumulation_steps",
    "dataset.resolution",
)
"""Settings that an overlay may change."""


@dataclass(frozen=True)
class Overlay:
    """Settings for a GPU of this size: for any base, with exceptions per family and per base."""

    name: str
    title: str
    description: str
    measured: str
    path: Path
    settings: dict = field(compare=False, repr=False)
    of_families: dict = field(compare=False, repr=False)
    of_bases: dict = field(compare=False, repr=False)

    @property
    def gigabytes(self) -> int:
        return int(self.name.removeprefix(PREFIX).removesuffix("gb"))

    def settings_for(self, family: str, base_model: str) -> dict:
        return {**self.settings, **self.of_families.get(family, {}), **self.of_bases.get(base_model, {})}


def overlays() -> list[Overlay]:
    """All shipped overlays, smallest GPU first."""
    return sorted(_read(), key=lambda overlay: overlay.gigabytes)


def get(name: str) -> Overlay:
    """The overlay of this name or memory size: memory-12gb, 12gb, 12 GB."""
    wanted = PREFIX + "".join(name.lower().split()).removeprefix(PREFIX)
    known = overlays()
    for overlay in known:
        if overlay.name == wanted:
            return overlay
    sizes = ", ".join(overlay.name.removeprefix(PREFIX) for overlay in known)
    raise StudioError(f"There is no memory overlay {name!r}. Choose one of {sizes}, or leave it out to decide by the free memory.")


def least_gigabytes(family: str, base_model: str) -> int | None:
    """The smallest GPU, in GB, that trains a base without offloading blocks to RAM, which is slow; None if the largest overlay offloads it too."""
    enough = (each.gigabytes for each in overlays() if not each.settings_for(family, base_model).get("runtime.offload"))
    return next(enough, None)


def fit(config: TrainConfig, memory: str, explicit: Collection[str] = ()) -> TrainConfig:
    """The config with an overlay applied; an empty name changes nothing. Settings in `explicit` were set by the user and stay.

    Resolution and batch size are upper limits, never raised. A smaller batch is compensated by gradient accumulation, so that each step
    still trains on as many images.
    """
    if not memory:
        return config
    changes = {path: value for path, value in get(memory).settings_for(config.model.family, config.model.base_model).items() if path not in explicit}
    if "dataset.resolution" in changes:
        changes["dataset.resolution"] = min(changes["dataset.resolution"], config.dataset.resolution)
    if most := changes.pop("training.train_batch_size", None):
        batch, accumulated = config.training.train_batch_size, config.training.gradient_accumulation_steps
        if batch > most:
            changes["training.train_batch_size"] = most
            if "training.gradient_accumulation_steps" not in explicit:
                changes["training.gradient_accumulation_steps"] = math.ceil(batch * accumulated / most)
    return fields.replace(config, changes)


@functools.cache
def _read() -> tuple[Overlay, ...]:
    found = []
    for path in PRESETS_DIR.glob(f"{PREFIX}*.toml"):
        values = tomllib.loads(path.read_text(encoding="utf-8"))
        about, *exceptions = (values.pop(name) for name in ("overlay", "families", "bases"))
        of_families, of_bases = ({name: fields.flatten(tables) for name, tables in each.items()} for each in exceptions)
        texts = (about["title"], about["description"], about["measured"])
        found.append(Overlay(path.stem, *texts, path, fields.flatten(values), of_families, of_bases))
    return tuple(found)
