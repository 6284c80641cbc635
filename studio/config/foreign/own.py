"""Settings that this studio wrote: a run's config, a preset, or the header of a LoRA it trained; also by an older or newer version of it."""

from pathlib import Path
from typing import Any

from studio.adapters.format import read_header
from studio.config import fields
from studio.config.foreign.border import Imported, Left, Taken, short
from studio.config.train_config import TrainConfig, migrate
from studio.core import bounded_json
from studio.core.errors import StudioError

LARGEST_FACTS = 1024 * 1024
CHOSEN_ANEW = (
    "runtime.device",
    "runtime.dtype",
    "runtime.threads",
    "runtime.attention",
    "runtime.gradient_checkpointing",
    "runtime.quantisation",
    "runtime.offload",
    "runtime.execution",
)
"""What a run wrote down for the machine it began on; another machine, or another day, chooses again."""


def recognises(values: dict[str, Any]) -> bool:
    known = {leaf.path for leaf in fields.leaves(TrainConfig())}
    tables = {name: table for name, table in values.items() if name in TrainConfig.model_fields and isinstance(table, dict)}
    return "preset" in values or isinstance(values.get("version"), int) or (bool(tables) and set(fields.flatten(tables)) <= known)


def read(values: dict[str, Any], source: str = "this studio") -> Imported:
    """What a config or preset of ours says; a setting that this version does not have, or not with that value, is left by name."""
    tables = migrate({name: table for name, table in values.items() if name not in ("preset", "quick")})
    rest = {name: table for name, table in tables.items() if name != "version" and not isinstance(table, dict)}
    asked = fields.flatten({name: table for name, table in tables.items() if isinstance(table, dict)})
    left = [Left(name, short(value), "unknown here.") for name, value in rest.items()]
    known = {leaf.path for leaf in fields.leaves(TrainConfig())}
    found: dict[str, Any] = {}
    for path, value in asked.items():
        if path not in known:
            left.append(Left(path, short(value), "unknown here."))
        elif path in CHOSEN_ANEW and value is not None and "preset" not in values:
            left.append(Left(path, short(value), "this machine chooses anew; set it under More settings to keep it.", matters=False))
        else:
            try:
                fields.replace(TrainConfig(), {path: value})
                found[path] = value
            except StudioError as error:
                left.append(Left(path, short(value), str(error)))
    if "lora.rank" in found and found.get("lora.alpha") is None:
        found["lora.alpha"] = float(found["lora.rank"])
    return Imported(source, found, [Taken(path, short(value), path) for path, value in found.items()], left)


def of_adapter(path: Path, name: str) -> Imported:
    """The settings in the header of a LoRA that a studio trained."""
    said = read_header(path).metadata.get("studio", "")
    try:
        facts = bounded_json.loads(said) if len(said) <= LARGEST_FACTS else {}
    except ValueError:
        facts = {}
    config = facts.get("config") if isinstance(facts, dict) else None
    if not isinstance(config, dict):
        raise StudioError(
            f"{name} does not say how it was trained: only LoRAs made by this studio carry their settings. Import the settings file instead."
        )
    return read(config, "this LoRA")
