"""Shipped presets: presets/<family>-<subject>.toml, each with a best and a quick pace, and the config that they give for a dataset."""

import functools
import json
import tomllib
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from studio import families
from studio.config import fields, memory_overlays, suggestions, toml
from studio.config.memory_overlays import PRESETS_DIR
from studio.config.model import ModelConfig
from studio.config.train_config import TrainConfig, build, migrate, read_overrides
from studio.core.errors import StudioError
from studio.datasets.trigger_words import fill_placeholder

if TYPE_CHECKING:
    from studio.datasets.dataset import Dataset

QUICK = "-quick"
STEPS, SAMPLE_STEPS, GUIDANCE = "training.max_train_steps", "samples.num_inference_steps", "samples.guidance_scale"


@dataclass(frozen=True)
class Preset:
    """A named set of settings that differ from the defaults. If it does not set the steps, they are suggested from the number of images."""

    name: str
    title: str
    description: str
    measured: str
    family: str
    base_model: str
    subject: str
    path: Path
    pace: str = "best"
    """best or quick: the best quality, or a first look in at most half the time."""
    values: dict = field(default_factory=dict, compare=False, repr=False)

    @property
    def suggests_steps(self) -> bool:
        return STEPS not in fields.flatten(self.values)


def presets() -> list[Preset]:
    """All shipped presets, by file name. Each file has the best pace and, as differences from it, the quick one."""
    return list(_shipped())


def preset(name: str, *overrides: str, overlay: str = "") -> TrainConfig:
    """The config of one shipped preset, by name."""
    return build_config(get(name).values, *overrides, overlay=overlay)


def get(name: str) -> Preset:
    for known in presets():
        if known.name == name:
            return known
    raise StudioError(f"Unknown preset {name!r}; known presets: {', '.join(p.name for p in presets())}.")


def load(source: Path | str, *overrides: str, overlay: str = "") -> TrainConfig:
    """Read a .toml preset or a run's config.json. Each override is "section.field=value", with a TOML or a plain value."""
    return build_config(read(Path(source)), *overrides, overlay=overlay)


def read(path: Path) -> dict:
    """The sections of one of the studio's own settings files, migrated to the current version; of a preset, the best pace."""
    try:
        text = path.read_text(encoding="utf-8")
        values = json.loads(text) if path.suffix == ".json" else tomllib.loads(text)
    except OSError:
        raise StudioError(f"There is no settings file {path.name!r}; known presets: {', '.join(p.name for p in presets())}.") from None
    except ValueError as error:
        raise StudioError(f"{path.name} cannot be read as a settings file: {error}.") from None
    if not isinstance(values, dict):
        raise StudioError(f"{path.name} cannot be read as a settings file: it contains no sections.")
    return migrate({name: value for name, value in values.items() if name not in ("preset", "quick")})


def build_config(values: dict, *overrides: str, overlay: str = "") -> TrainConfig:
    """The config of these values with overrides and a memory overlay; overrides win. Sampling settings default to the recommendation of the
    base's publisher."""
    explicit = {**dict.fromkeys(fields.flatten(_sections(values))), **read_overrides(overrides)}
    config = build(values, *overrides)
    offer = families.offer(config.model.base_model) or families.offer(_sections(values).get("model", {}).get("base_model", ""))
    if offer:
        recommended = {SAMPLE_STEPS: offer.sampling.num_inference_steps, GUIDANCE: offer.sampling.guidance_scale}
        config = fields.replace(config, {path: value for path, value in recommended.items() if path not in explicit})
    return memory_overlays.fit(config, overlay, read_overrides(overrides))


def for_dataset(dataset: "Dataset", preset_name: str = "", *overrides: str, overlay: str = "") -> TrainConfig:
    """The config for a dataset: the named preset, or the one that fits the subject and the base, with the dataset's own facts filled in."""
    base_model = read_overrides(overrides).get("model.base_model") or ""
    return fit_to_dataset(get(preset_name or fitting_preset(dataset.subject, base_model)), dataset, *overrides, overlay=overlay)


def fit_to_dataset(chosen: Preset, dataset: "Dataset", *overrides: str, overlay: str = "") -> TrainConfig:
    """A preset's config for a dataset: with its subject, trigger word, suggested steps, sample prompts and the family of the base."""
    about = {"id": dataset.id, "subject": dataset.subject, "trigger_word": dataset.trigger_word}
    # Quoted, so that trigger words such as 42 and true, and an empty one, stay strings.
    quoted = [f"dataset.{name}={toml.format_value(value)}" for name, value in about.items()]
    config = build_config(chosen.values, *quoted, *overrides, overlay=overlay)
    explicit = read_overrides(overrides)
    prompts = config.samples.prompts or (suggestions.PROMPTS[dataset.subject] if "samples.prompts" not in explicit else [])
    filled = dict.fromkeys(fill_placeholder(prompt, config.dataset.trigger_word) for prompt in prompts)
    changes: dict[str, Any] = {"samples.prompts": list(filled)}
    if chosen.suggests_steps and STEPS not in explicit:
        changes[STEPS] = suggested_steps(config, len(dataset.images), chosen.pace)
    family = families.detect(config.model.base_model, config.model.revision)
    if family and "model.family" not in explicit:
        changes["model.family"] = family.name
    return fields.replace(config, changes)


def suggested_steps(config: TrainConfig, image_count: int, pace: str = "best") -> int:
    """Suggested steps for this many images, without the validation images, at this config's effective batch size."""
    effective_batch = config.training.train_batch_size * config.training.gradient_accumulation_steps
    return suggestions.steps(max(1, image_count - config.validation.pictures), config.dataset.subject, pace, effective_batch)


def fitting_preset(subject: str, base_model: str = "") -> str:
    """Name of the best preset for a subject and a base (empty: the built-in one).

    A base that no preset names is the user's own, from the Hub or a folder, and far larger than the built-in one, whose settings would not
    suit it. Its family decides; if that is unknown until the base is downloaded, the first preset of the subject is used.
    """
    about = [p for p in presets() if p.pace == "best" and p.subject == subject]
    shipped = ModelConfig()
    family = families.detect(base_model) if base_model else None
    exact = [p for p in about if p.base_model == (base_model or shipped.base_model)]
    alike = [p for p in about if p.family == (family.name if family else shipped.family) and p.base_model != shipped.base_model]
    return (exact or alike or about)[0].name


def _sections(values: dict) -> dict:
    return {name: table for name, table in values.items() if isinstance(table, dict)}


@functools.cache
def _shipped() -> tuple[Preset, ...]:
    found = []
    for path in sorted(PRESETS_DIR.glob("*.toml")):
        if not path.stem.startswith(memory_overlays.PREFIX):
            values = tomllib.loads(path.read_text(encoding="utf-8"))
            about, quick = values.pop("preset"), values.pop("quick", {})
            found.append(from_tables(path.stem, path, about, values))
            if quick:
                tables = _sections(quick)
                merged = {name: {**values.get(name, {}), **tables.get(name, {})} for name in {**values, **tables}}
                found.append(from_tables(path.stem + QUICK, path, quick, merged, "quick"))
    return tuple(found)


def from_tables(name: str, path: Path, about: dict, values: dict, pace: str = "best") -> Preset:
    """A preset from the tables of its file."""
    config = build(values)
    title, description, measured = about.get("title", name), about.get("description", ""), about.get("measured", "estimated")
    return Preset(name, title, description, measured, config.model.family, config.model.base_model, config.dataset.subject, path, pace, values)
