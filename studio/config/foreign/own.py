"""Settings written by the studio itself, in this or another version: a run's config, a preset, or the header of a trained LoRA."""

from pathlib import Path
from typing import Any

from studio.adapters.format import read_header
from studio.config import fields
from studio.config.foreign.reader import Applied, Imported, Skipped, short
from studio.config.train_config import TrainConfig, migrate
from studio.core import bounded_json
from studio.core.errors import StudioError

LARGEST_FACTS = 1024 * 1024
EXTENSIONS = "training.extensions"
"""What happened to that run after it had finished, no setting: a new run trains all steps in one schedule."""
MACHINE_SETTINGS = (
    "runtime.device",
    "runtime.dtype",
    "runtime.threads",
    "runtime.engine",
    "runtime.attention",
    "runtime.gradient_checkpointing",
    "runtime.quantisation",
    "runtime.offload",
    "runtime.execution",
)
"""Settings that a run recorded for its machine; they are chosen again for each new run."""


def is_own(values: dict[str, Any]) -> bool:
    known = {leaf.path for leaf in fields.leaves(TrainConfig())}
    tables = {name: table for name, table in values.items() if name in TrainConfig.model_fields and isinstance(table, dict)}
    return "preset" in values or isinstance(values.get("version"), int) or (bool(tables) and set(fields.flatten(tables)) <= {*known, EXTENSIONS})


def read(values: dict[str, Any], source: str = "this studio") -> Imported:
    """Import a config or preset; settings or values that this version does not have are skipped and reported."""
    tables = migrate({name: table for name, table in values.items() if name not in ("preset", "quick")})
    rest = {name: table for name, table in tables.items() if name != "version" and not isinstance(table, dict)}
    flat = fields.flatten({name: table for name, table in tables.items() if isinstance(table, dict)})
    skipped = [Skipped(name, short(value), "unknown here.") for name, value in rest.items()]
    known = {leaf.path for leaf in fields.leaves(TrainConfig())}
    found: dict[str, Any] = {}
    for path, value in flat.items():
        if path == EXTENSIONS:
            continue
        if path not in known:
            skipped.append(Skipped(path, short(value), "unknown here."))
        elif path in MACHINE_SETTINGS and value is not None and "preset" not in values:
            skipped.append(Skipped(path, short(value), "it is chosen again for this machine; set it under More settings to keep it.", matters=False))
        else:
            try:
                fields.replace(TrainConfig(), {path: value})
                found[path] = value
            except StudioError as error:
                skipped.append(Skipped(path, short(value), str(error)))
    if "lora.rank" in found and found.get("lora.alpha") is None:
        found["lora.alpha"] = float(found["lora.rank"])
    return Imported(source, found, [Applied(path, short(value), path) for path, value in found.items()], skipped)


def read_adapter(path: Path, name: str) -> Imported:
    """Import the settings in the header of a LoRA that was trained in the studio."""
    text = read_header(path).metadata.get("studio", "")
    try:
        facts = bounded_json.loads(text) if len(text) <= LARGEST_FACTS else {}
    except ValueError:
        facts = {}
    config = facts.get("config") if isinstance(facts, dict) else None
    if not isinstance(config, dict):
        raise StudioError(f"{name} contains no training settings; only LoRAs trained in this studio do. Import a settings file instead.")
    return read(config, "this LoRA")
