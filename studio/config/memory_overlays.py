"""Memory overlays: presets/memory-<n>gb.toml, what makes a base fit a graphics card of that size, laid over any preset."""

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
"""The settings an overlay may change."""


@dataclass(frozen=True)
class Overlay:
    """What a card of this size needs: for any base, and what single families, or single bases of a family, need instead."""

    name: str
    title: str
    description: str
    measured: str
    path: Path
    settings: dict = field(compare=False, repr=False)
    of_families: dict = field(compare=False, repr=False)
    of_bases: dict = field(compare=False, repr=False)

    def settings_for(self, family: str, base_model: str) -> dict:
        return {**self.settings, **self.of_families.get(family, {}), **self.of_bases.get(base_model, {})}


def overlays() -> list[Overlay]:
    """All that ship, the smallest card first."""
    return sorted(_read(), key=lambda overlay: int(overlay.name.removeprefix(PREFIX).removesuffix("gb")))


def named(name: str) -> Overlay:
    """By its name or by the memory alone: memory-12gb, 12gb, 12 GB."""
    asked = PREFIX + "".join(name.lower().split()).removeprefix(PREFIX)
    known = overlays()
    for overlay in known:
        if overlay.name == asked:
            return overlay
    sizes = ", ".join(overlay.name.removeprefix(PREFIX) for overlay in known)
    raise StudioError(f"There are no settings for a memory of {name!r}; choose one of {sizes}, or leave it out to take what is free.")


def fit(config: TrainConfig, memory: str, said: Collection[str] = ()) -> TrainConfig:
    """The config made to fit; an empty name changes nothing. Settings in `said` were asked for by hand and stay.

    Picture size and batch are upper limits, never raised. A batch that becomes smaller is made up for by accumulation, so that each step
    still learns from as many pictures.
    """
    if not memory:
        return config
    wanted = {path: value for path, value in named(memory).settings_for(config.model.family, config.model.base_model).items() if path not in said}
    if "dataset.resolution" in wanted:
        wanted["dataset.resolution"] = min(wanted["dataset.resolution"], config.dataset.resolution)
    if most := wanted.pop("training.train_batch_size", None):
        batch, accumulated = config.training.train_batch_size, config.training.gradient_accumulation_steps
        if batch > most:
            wanted["training.train_batch_size"] = most
            if "training.gradient_accumulation_steps" not in said:
                wanted["training.gradient_accumulation_steps"] = math.ceil(batch * accumulated / most)
    return fields.replace(config, wanted)


@functools.cache
def _read() -> tuple[Overlay, ...]:
    found = []
    for path in PRESETS_DIR.glob(f"{PREFIX}*.toml"):
        values = tomllib.loads(path.read_text(encoding="utf-8"))
        about, *single = (values.pop(name) for name in ("overlay", "families", "bases"))
        of_families, of_bases = ({name: fields.flatten(tables) for name, tables in each.items()} for each in single)
        words = (about["title"], about["description"], about["measured"])
        found.append(Overlay(path.stem, *words, path, fields.flatten(values), of_families, of_bases))
    return tuple(found)
