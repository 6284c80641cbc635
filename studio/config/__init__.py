"""Every training parameter, once: type, bounds, default, and the help text a person reads. A file says only what differs."""

import json
import tomllib
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

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
from studio.errors import StudioError
from studio.trigger_words import spoken

if TYPE_CHECKING:
    from studio.dataset import Dataset

PRESETS_DIR = Path(__file__).parents[2] / "presets"
VERSION = 1


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


@dataclass(frozen=True)
class Preset:
    """A named starting point: `presets/<name>.toml`, which says only what differs from the defaults."""

    name: str
    title: str
    description: str
    measured: str
    family: str
    base_model: str
    subject: str
    path: Path


def load(source: Path | str, *overrides: str) -> TrainConfig:
    """Read a .toml preset or a run's config.json; each override is "section.field=value" in TOML's or plain spelling."""
    path = Path(source)
    try:
        text = path.read_text(encoding="utf-8")
        values = json.loads(text) if path.suffix == ".json" else tomllib.loads(text)
    except OSError:
        raise StudioError(f"There is no settings file {path.name!r}; known presets: {', '.join(p.name for p in presets())}.") from None
    except (json.JSONDecodeError, tomllib.TOMLDecodeError) as error:
        raise StudioError(f"{path.name} is not a settings file that can be read: {error}.") from None
    values.pop("preset", None)
    return build(migrate(values), *overrides)


def build(values: dict, *overrides: str) -> TrainConfig:
    """Validate once; what is wrong comes back as one sentence with the field, the value and what is allowed."""
    for override in overrides:
        path, separator, value = override.partition("=")
        section, dot, name = path.strip().partition(".")
        if not (separator and dot):
            raise StudioError(f"{override!r} is not a setting; write section.field=value, for example lora.rank=8.")
        part = dict(values.get(section, {}))
        part[name] = _plain_value(value.strip())
        # What follows from a setting must not outlive it.
        if (section, name) == ("lora", "rank") and not any(o.strip().startswith("lora.alpha") for o in overrides):
            part.pop("alpha", None)
        if (section, name) == ("model", "base_model") and not any(o.strip().startswith("model.family") for o in overrides):
            part.pop("family", None)
        values = {**values, section: part}
    try:
        return TrainConfig.model_validate(values)
    except ValidationError as error:
        raise StudioError(fields.explain(error, TrainConfig())) from None


def preset(name: str, *overrides: str) -> TrainConfig:
    """The config of one shipped preset, by name."""
    for known in presets():
        if known.name == name:
            return load(known.path, *overrides)
    raise StudioError(f"Unknown preset {name!r}; known presets: {', '.join(p.name for p in presets())}.")


def fitting_preset(subject: str, base_model: str = "") -> str | None:
    """The first shipped preset for what a dataset is about and for this base (empty: the shipped one).

    A base that no preset names is somebody's own, from the Hub or a folder, and far larger than the shipped one: numbers made for that would
    not fit it.
    """
    known, shipped = presets(), ModelConfig().base_model
    about = [p for p in known if p.subject == subject] or known
    fitting = [p for p in about if p.base_model == (base_model or shipped)] or [p for p in about if p.base_model != shipped] or about
    return fitting[0].name if fitting else None


def suggested_prompts(subject: str) -> list[str]:
    """A prompt with the trigger word, the same without it, and a scene no picture shows."""
    if subject == "style":
        return [
            "[trigger] illustration of a red boat by the sea",
            "illustration of a red boat by the sea",
            "[trigger] illustration of a yellow umbrella at night",
        ]
    return ["[trigger] on a street", "a street", "[trigger] in the snow at night"]


def for_dataset(dataset: "Dataset", preset_name: str = "", *overrides: str) -> TrainConfig:
    """The named preset, or the fitting one, with what the dataset says about itself in it, and the words for its film."""
    about = {"id": dataset.id, "subject": dataset.subject, "trigger_word": dataset.trigger_word}
    # Quoted, so that the trigger words 42, true and the empty one are words as well.
    words = [f"dataset.{name}={json.dumps(value, ensure_ascii=False)}" for name, value in about.items()]
    name = preset_name or fitting_preset(dataset.subject)
    config = preset(name, *words, *overrides) if name else build({}, *words, *overrides)
    unsaid = not any(override.strip().startswith("samples.prompts") for override in overrides)
    prompts = config.samples.prompts or (suggested_prompts(dataset.subject) if unsaid else [])
    named = dict.fromkeys(spoken(prompt, config.dataset.trigger_word) for prompt in prompts)
    return fields.replace(config, {"samples.prompts": list(named)})


def presets() -> list[Preset]:
    """All shipped presets, by file name."""
    found = []
    for path in sorted(PRESETS_DIR.glob("*.toml")):
        values = tomllib.loads(path.read_text(encoding="utf-8"))
        about = values.get("preset", {})
        config = TrainConfig.model_validate({k: v for k, v in values.items() if k != "preset"})
        found.append(
            Preset(
                name=path.stem,
                title=about.get("title", path.stem),
                description=about.get("description", ""),
                measured=about.get("measured", "estimated"),
                family=config.model.family,
                base_model=config.model.base_model,
                subject=config.dataset.subject,
                path=path,
            )
        )
    return found


def dump(config: TrainConfig) -> bytes:
    """The config as canonical JSON: every leaf, also the defaults, so that a later default cannot change an old run."""
    return (json.dumps(config.model_dump(mode="json"), indent=1, sort_keys=True) + "\n").encode()


def migrate(values: dict) -> dict:
    """Bring a config written by an older studio up to today's version; configs outlive code."""
    version = values.get("version", VERSION)
    if not isinstance(version, int) or version > VERSION:
        raise StudioError(f"These settings were written by a newer studio (version {version}); this one reads up to {VERSION}. Update the studio.")
    return {**values, "version": VERSION}


def _plain_value(text: str):
    """`8`, `1e-4`, `true`, `["a"]` as TOML reads them; anything else is the text itself; `none` clears an optional field."""
    if text.lower() in ("none", ""):
        return None
    try:
        return tomllib.loads(f"value = {text}")["value"]
    except tomllib.TOMLDecodeError:
        return text
