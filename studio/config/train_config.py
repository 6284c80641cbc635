"""TrainConfig: all sections together, validation, overrides, canonical JSON and migration."""

import json
import tomllib

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from studio.config import fields
from studio.config.dataset import DatasetConfig
from studio.config.lora import LoraConfig
from studio.config.model import ModelConfig
from studio.config.prior import PriorConfig
from studio.config.runtime import RuntimeConfig
from studio.config.samples import SamplesConfig
from studio.config.saving import SavingConfig
from studio.config.training import TrainingConfig
from studio.config.validation import ValidationConfig
from studio.core.errors import StudioError

VERSION = 3
"""1: up to 0.1. 2: `runtime.attention`; before it, an exact run on CUDA computed attention with the math kernel. 3: `runtime.engine`."""


class TrainConfig(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)

    version: int = VERSION
    model: ModelConfig = Field(default_factory=ModelConfig)
    dataset: DatasetConfig = Field(default_factory=DatasetConfig)
    lora: LoraConfig = Field(default_factory=LoraConfig)
    training: TrainingConfig = Field(default_factory=TrainingConfig)
    prior: PriorConfig = Field(default_factory=PriorConfig)
    validation: ValidationConfig = Field(default_factory=ValidationConfig)
    samples: SamplesConfig = Field(default_factory=SamplesConfig)
    saving: SavingConfig = Field(default_factory=SavingConfig)
    runtime: RuntimeConfig = Field(default_factory=RuntimeConfig)


def build(values: dict, *overrides: str) -> TrainConfig:
    """Validate values and overrides; StudioError with the setting, its value and what is allowed."""
    explicit = read_overrides(overrides)
    for path, value in explicit.items():
        section, _, name = path.partition(".")
        part = {**values.get(section, {}), name: value}
        # Values derived from a setting that is overridden are derived again.
        if path == "lora.rank" and "lora.alpha" not in explicit:
            part.pop("alpha", None)
        if path == "model.base_model" and "model.family" not in explicit:
            part.pop("family", None)
        values = {**values, section: part}
    try:
        return TrainConfig.model_validate(values)
    except ValidationError as error:
        raise StudioError(fields.explain(error, TrainConfig())) from None


def read_overrides(overrides: tuple[str, ...]) -> dict:
    """ "lora.rank=8" -> {"lora.rank": 8}; values are TOML or plain text."""
    found = {}
    for override in overrides:
        path, separator, value = override.partition("=")
        if not (separator and "." in path):
            raise StudioError(f"{override!r} is not a setting; write section.field=value, for example lora.rank=8.")
        found[path.strip()] = _plain_value(value.strip())
    return found


def dump(config: TrainConfig) -> bytes:
    """The config as canonical JSON, defaults included, so that a changed default cannot change an old run."""
    return (json.dumps(config.model_dump(mode="json"), indent=1, sort_keys=True) + "\n").encode()


def migrate(values: dict) -> dict:
    """A config of an older version, converted to the current one."""
    version = values.get("version", VERSION)
    if not isinstance(version, int) or version > VERSION:
        raise StudioError(f"These settings were written by a newer studio (version {version}); this one reads up to {VERSION}. Update the studio.")
    if version < 2:
        values = _keep_attention(values)
    if version < 3 and _has_started(values):
        values = {**values, "runtime": {**values["runtime"], "engine": 1}}
    return {**values, "version": VERSION}


def _has_started(values: dict) -> bool:
    """Whether this is the config of a started run: a run fills in what was left empty."""
    runtime = values.get("runtime")
    return isinstance(runtime, dict) and all(runtime.get(name) for name in ("device", "dtype", "threads"))


def _keep_attention(values: dict) -> dict:
    """Keep the math kernel for an older run that started on CUDA: another kernel rounds differently."""
    runtime = values.get("runtime", {})
    if _has_started(values) and runtime.get("device") == "cuda" and runtime.get("exact", True):
        return {**values, "runtime": {**runtime, "attention": "math"}}
    return values


def _plain_value(text: str):
    """`8`, `1e-4`, `true`, `["a"]` as TOML reads them; anything else is the text itself; `none` clears an optional field."""
    if text.lower() in ("none", ""):
        return None
    try:
        return tomllib.loads(f"value = {text}")["value"]
    except tomllib.TOMLDecodeError:
        return text
