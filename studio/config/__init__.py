"""Every training parameter, once: type, bounds, default, and the help text a person reads. A file says only what differs."""

from studio.config.memory_overlays import PRESETS_DIR, Overlay, overlays
from studio.config.shipped_presets import Preset, fitting_preset, for_dataset, load, preset, presets, suggested_steps, tailored
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
    "tailored",
]
