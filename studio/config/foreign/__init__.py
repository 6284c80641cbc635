"""Import of settings files: the studio's own (a run's config.json, a preset, a LoRA's header), kohya's and ai-toolkit's."""

from pathlib import Path
from typing import Any

from studio.config import fields
from studio.config.foreign import ai_toolkit, kohya, own
from studio.config.foreign.parsing import PARSERS, parse
from studio.config.foreign.reader import Imported, Skipped, Unsupported, short
from studio.config.train_config import TrainConfig
from studio.core.errors import StudioError

LARGEST = 1024 * 1024
ENDINGS = (*PARSERS, ".safetensors")
DATASET_SETTINGS = ("dataset.id", "dataset.subject", "dataset.trigger_word")
"""Settings of the selected dataset, never imported."""


def read(path: Path, name: str = "", image_count: int = 0) -> Imported:
    """Import the settings in a file called `name`. `image_count` is the number of training images, which converts epochs to steps.

    StudioError for a file that is not a settings file, is too large for one, or is malicious.
    """
    name = name or path.name
    if path.suffix.lower() == ".safetensors":
        return own.read_adapter(path, name)
    if path.suffix.lower() not in ENDINGS:
        raise StudioError(f"{name} is not a settings file. The studio reads {', '.join(ENDINGS)}.")
    size = path.stat().st_size
    if size > LARGEST:
        raise StudioError(f"{name} has {size / 1e6:.1f} MB; settings files have at most {LARGEST // 1024} kB. Choose another file.")
    try:
        values = parse(path.read_bytes().decode("utf-8-sig"), path.suffix.lower())
    except ValueError as error:
        raise StudioError(f"{name} cannot be read as {path.suffix.lower().removeprefix('.')}: {short(error, 200)}.") from None
    if not isinstance(values, dict):
        raise StudioError(f"{name} contains no named settings. The studio reads its own files, kohya's .toml and ai-toolkit's .yaml.")
    try:
        return convert(values, image_count)
    except Unsupported as error:
        raise StudioError(f"{name} cannot be imported: {error}") from None


def convert(values: dict[str, Any], image_count: int = 0) -> Imported:
    """Identify the trainer from the names of the settings and convert them."""
    config = values.get("config")
    if isinstance(config, dict) and "process" in config:
        return ai_toolkit.read(values, image_count)
    if own.is_own(values):
        return own.read(values)
    if "LoRA_type" in values:
        raise Unsupported("it was saved by the kohya_ss GUI. Import the .toml that the GUI writes beside every LoRA instead.")
    if kohya.is_kohya(values):
        return kohya.read(values, image_count)
    raise Unsupported("its settings are of an unknown trainer. The studio imports its own, kohya's sd-scripts' and ostris' ai-toolkit's.")


def apply(start: TrainConfig, imported: Imported) -> TrainConfig:
    """The config with the imported settings applied, except those of the dataset."""
    return fields.replace(start, {path: value for path, value in imported.values.items() if path not in DATASET_SETTINGS})


__all__ = ["ENDINGS", "Imported", "Skipped", "DATASET_SETTINGS", "apply", "read", "convert"]
