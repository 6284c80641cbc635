"""Training config: every parameter once, with type, bounds, default, label and help text. A preset file contains only what differs from the defaults."""

from studio.config.memory_overlays import PRESETS_DIR, Overlay, overlays
from studio.config.shipped_presets import Preset, fit_to_dataset, fitting_preset, for_dataset, load, preset, presets, suggested_steps
from studio.config.train_config import VERSION, TrainConfig, build, dump, migrate

__all__ = [
    "PRESETS_DIR",
    "VERSION",
    "Overlay",
    "Preset",
    "TrainConfig",
    "build",
    "dump",
    "fitting_preset",
    "for_dataset",
    "load",
    "migrate",
    "overlays",
    "preset",
    "presets",
    "suggested_steps",
    "fit_to_dataset",
]
