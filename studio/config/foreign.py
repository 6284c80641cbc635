"""Settings from a file that somebody brings: our own (a run's config.json, a preset, a LoRA's header), kohya's, or ai-toolkit's."""

import json
import tomllib
from pathlib import Path
from typing import Any

from studio.adapters import read_header
from studio.config import ai_toolkit, fields, kohya
from studio.config.border import Imported, Left, Taken, Unfit, short
from studio.config.whole import TrainConfig, migrate
from studio.errors import StudioError

LARGEST = 1024 * 1024
DEEPEST = 24
MOST_NODES = 50_000
ENDINGS = (".toml", ".json", ".yaml", ".yml", ".safetensors")
CHOSEN_ANEW = (
    "runtime.device",
    "runtime.dtype",
    "runtime.threads",
    "runtime.gradient_checkpointing",
    "runtime.quantisation",
    "runtime.offload",
    "runtime.execution",
)
"""What a run wrote down for the machine it began on; another machine, or another day, chooses again."""
OF_THE_PICTURES = ("dataset.id", "dataset.subject", "dataset.trigger_word")
"""These belong to the dataset that is chosen."""


def read(path: Path, name: str = "", pictures: int = 0) -> Imported:
    """The settings in a file called `name`; `pictures` is how many there are to learn from, which turns epochs into steps.

    StudioError for a file that is no settings file, is larger than a settings file can be, or is made to do harm.
    """
    name = name or path.name
    if path.suffix.lower() == ".safetensors":
        return of_adapter(path, name)
    if path.suffix.lower() not in ENDINGS:
        raise StudioError(f"{name} is not a settings file; the studio reads {', '.join(ENDINGS)}.")
    size = path.stat().st_size
    if size > LARGEST:
        raise StudioError(f"{name} has {size / 1e6:.1f} MB; settings are smaller than {LARGEST // 1024} kB. It must be another file.")
    try:
        values = parsed(path.read_bytes().decode("utf-8-sig"), path.suffix.lower())
    except (ValueError, RecursionError) as error:
        why = "it is nested too deep" if isinstance(error, RecursionError) else short(error)
        raise StudioError(f"{name} cannot be read as {path.suffix.lower().removeprefix('.')}: {why}.") from None
    if _too_deep(values):
        raise StudioError(f"{name} is nested deeper than settings are; it must be another file.")
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
    if _ours(values):
        return own(values)
    if "LoRA_type" in values:
        raise Unfit("it was written by the page of kohya_ss. Import the .toml instead that it puts beside every LoRA it trains.")
    if kohya.recognises(values):
        return kohya.read(values, pictures)
    raise Unfit("its settings belong to no trainer that the studio knows: its own, kohya's sd-scripts, ostris' ai-toolkit.")


def _ours(values: dict[str, Any]) -> bool:
    known = {leaf.path for leaf in fields.leaves(TrainConfig())}
    tables = {name: table for name, table in values.items() if name in TrainConfig.model_fields and isinstance(table, dict)}
    return "preset" in values or isinstance(values.get("version"), int) or (bool(tables) and set(fields.flatten(tables)) <= known)


def own(values: dict[str, Any], source: str = "this studio") -> Imported:
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
        facts = json.loads(said) if len(said) <= LARGEST else {}
    except (ValueError, RecursionError):
        facts = {}
    config = facts.get("config") if isinstance(facts, dict) else None
    if not isinstance(config, dict):
        raise StudioError(
            f"{name} does not say how it was trained: only LoRAs made by this studio carry their settings. Import the settings file instead."
        )
    return own(config, "this LoRA")


def parsed(text: str, ending: str) -> Any:
    """TOML, JSON or YAML as plain values; ValueError or RecursionError for anything else. Of YAML only what JSON could say as well."""
    if ending == ".toml":
        return tomllib.loads(text)
    if ending == ".json":
        return json.loads(text)
    import yaml

    loader = yaml.CSafeLoader if yaml.__with_libyaml__ else yaml.SafeLoader
    try:
        _check_yaml(yaml, text, loader)
        return yaml.load(text, loader)  # noqa: S506 - both loaders are safe ones
    except yaml.YAMLError as error:
        raise ValueError(str(error)) from None


def _too_deep(values: Any) -> bool:
    level, depth = [values], 0
    while level and depth <= DEEPEST:
        level, depth = (
            [inner for each in level if isinstance(each, dict | list) for inner in (each.values() if isinstance(each, dict) else each)],
            depth + 1,
        )
    return bool(level)


def _check_yaml(yaml, text: str, loader: type) -> None:
    """Before anything is built: no aliases (a few lines of them grow into gigabytes), no types, nothing endless or too deep to walk."""
    depth = 0
    for nodes, event in enumerate(yaml.parse(text, loader)):
        if isinstance(event, yaml.AliasEvent):
            raise ValueError("it uses aliases (*name), which settings do not need; write the values out")
        if isinstance(event, yaml.NodeEvent) and event.tag is not None:
            raise ValueError(f"it asks for the type {short(event.tag)}; only plain values are read")
        if isinstance(event, yaml.CollectionStartEvent):
            depth += 1
        elif isinstance(event, yaml.CollectionEndEvent):
            depth -= 1
        if depth > DEEPEST or nodes > MOST_NODES:
            raise ValueError("it is too deep or too long for settings")


def onto(start: TrainConfig, imported: Imported) -> TrainConfig:
    """A config with the imported settings in it, apart from those that belong to the pictures."""
    return fields.replace(start, {path: value for path, value in imported.values.items() if path not in OF_THE_PICTURES})
