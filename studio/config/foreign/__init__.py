"""Settings from a file that somebody brings: our own (a run's config.json, a preset, a LoRA's header), kohya's, or ai-toolkit's."""

from pathlib import Path
from typing import Any

from studio.config import fields
from studio.config.foreign import ai_toolkit, kohya, own
from studio.config.foreign.border import Imported, Left, Unfit, short
from studio.config.foreign.parsing import PARSERS, parsed
from studio.config.train_config import TrainConfig
from studio.core.errors import StudioError

LARGEST = 1024 * 1024
ENDINGS = (*PARSERS, ".safetensors")
OF_THE_PICTURES = ("dataset.id", "dataset.subject", "dataset.trigger_word")
"""These belong to the dataset that is chosen."""


def read(path: Path, name: str = "", pictures: int = 0) -> Imported:
    """The settings in a file called `name`; `pictures` is how many there are to learn from, which turns epochs into steps.

    StudioError for a file that is no settings file, is larger than a settings file can be, or is made to do harm.
    """
    name = name or path.name
    if path.suffix.lower() == ".safetensors":
        return own.of_adapter(path, name)
    if path.suffix.lower() not in ENDINGS:
        raise StudioError(f"{name} is not a settings file; the studio reads {', '.join(ENDINGS)}.")
    size = path.stat().st_size
    if size > LARGEST:
        raise StudioError(f"{name} has {size / 1e6:.1f} MB; settings are smaller than {LARGEST // 1024} kB. It must be another file.")
    try:
        values = parsed(path.read_bytes().decode("utf-8-sig"), path.suffix.lower())
    except ValueError as error:
        raise StudioError(f"{name} cannot be read as {path.suffix.lower().removeprefix('.')}: {short(error, 200)}.") from None
    if not isinstance(values, dict):
        raise StudioError(f"{name} holds no settings by name; the studio reads its own files, kohya's .toml and ai-toolkit's .yaml.")
    try:
        return recognised(values, pictures)
    except Unfit as error:
        raise StudioError(f"{name} cannot be used: {error}") from None


def recognised(values: dict[str, Any], pictures: int = 0) -> Imported:
    """Whose settings these are is told from their names."""
    if "process" in (values.get("config") if isinstance(values.get("config"), dict) else {}):
        return ai_toolkit.read(values, pictures)
    if own.recognises(values):
        return own.read(values)
    if "LoRA_type" in values:
        raise Unfit("it was written by the page of kohya_ss. Import the .toml instead that it puts beside every LoRA it trains.")
    if kohya.recognises(values):
        return kohya.read(values, pictures)
    raise Unfit("its settings belong to no trainer that the studio knows: its own, kohya's sd-scripts, ostris' ai-toolkit.")


def onto(start: TrainConfig, imported: Imported) -> TrainConfig:
    """A config with the imported settings in it, apart from those that belong to the pictures."""
    return fields.replace(start, {path: value for path, value in imported.values.items() if path not in OF_THE_PICTURES})


__all__ = ["ENDINGS", "Imported", "Left", "OF_THE_PICTURES", "onto", "read", "recognised"]
