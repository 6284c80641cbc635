"""The presets that ship: presets/<family>-<subject>.toml, each in two paces, and the config they become for somebody's pictures."""

import functools
import json
import tomllib
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from studio import families
from studio.config import fields, memory_overlays, suggestions, toml
from studio.config.memory_overlays import PRESETS_DIR
from studio.config.model import ModelConfig
from studio.config.train_config import TrainConfig, build, migrate, read_overrides
from studio.core.errors import StudioError
from studio.datasets.trigger_words import spoken

if TYPE_CHECKING:
    from studio.datasets.dataset import Dataset

QUICK = "-quick"
STEPS, SAMPLE_STEPS, GUIDANCE = "training.max_train_steps", "samples.num_inference_steps", "samples.guidance_scale"


@dataclass(frozen=True)
class Preset:
    """A named starting point that says only what differs from the defaults. Steps it does not say are suggested from the number of pictures."""

    name: str
    title: str
    description: str
    measured: str
    family: str
    base_model: str
    subject: str
    path: Path
    pace: str = "best"
    """best or quick: as good as it gets, or a first look in half the time or less."""
    values: dict = field(default_factory=dict, compare=False, repr=False)

    @property
    def suggests_steps(self) -> bool:
        return STEPS not in fields.flatten(self.values)


def presets() -> list[Preset]:
    """All shipped presets, by file name; each file holds the best pace and, as what differs from that, the quick one."""
    return list(_shipped())


def preset(name: str, *overrides: str, overlay: str = "") -> TrainConfig:
    """The config of one shipped preset, by name."""
    return configured(named(name).values, *overrides, overlay=overlay)


def named(name: str) -> Preset:
    for known in presets():
        if known.name == name:
            return known
    raise StudioError(f"Unknown preset {name!r}; known presets: {', '.join(p.name for p in presets())}.")


def load(source: Path | str, *overrides: str, overlay: str = "") -> TrainConfig:
    """Read a .toml preset or a run's config.json; each override is "section.field=value" in TOML's or plain spelling."""
    return configured(read(Path(source)), *overrides, overlay=overlay)


def read(path: Path) -> dict:
    """The sections of a settings file of our own, of today's version; of a preset the best pace."""
    try:
        text = path.read_text(encoding="utf-8")
        values = json.loads(text) if path.suffix == ".json" else tomllib.loads(text)
    except OSError:
        raise StudioError(f"There is no settings file {path.name!r}; known presets: {', '.join(p.name for p in presets())}.") from None
    except ValueError as error:
        raise StudioError(f"{path.name} is not a settings file that can be read: {error}.") from None
    return migrate({name: value for name, value in values.items() if name not in ("preset", "quick")})


def configured(values: dict, *overrides: str, overlay: str = "") -> TrainConfig:
    """Values, what was asked for on top, and a memory overlay under that. Samples nobody described are drawn as the base's makers recommend."""
    said = {**dict.fromkeys(fields.flatten(_sections(values))), **read_overrides(overrides)}
    config = build(values, *overrides)
    drawing = families.offer(config.model.base_model) or families.offer(_sections(values).get("model", {}).get("base_model", ""))
    if drawing:
        usual = {SAMPLE_STEPS: drawing.drawing.num_inference_steps, GUIDANCE: drawing.drawing.guidance_scale}
        config = fields.replace(config, {path: value for path, value in usual.items() if path not in said})
    return memory_overlays.fit(config, overlay, read_overrides(overrides))


def for_dataset(dataset: "Dataset", preset_name: str = "", *overrides: str, overlay: str = "") -> TrainConfig:
    """The named preset, or the one that fits the pictures and the base, with what the dataset says about itself in it."""
    base_model = read_overrides(overrides).get("model.base_model") or ""
    return tailored(named(preset_name or fitting_preset(dataset.subject, base_model)), dataset, *overrides, overlay=overlay)


def tailored(chosen: Preset, dataset: "Dataset", *overrides: str, overlay: str = "") -> TrainConfig:
    """A preset for these pictures: their subject and trigger word, the steps they suggest, words for their film, and the family of the base."""
    about = {"id": dataset.id, "subject": dataset.subject, "trigger_word": dataset.trigger_word}
    # Quoted, so that the trigger words 42, true and the empty one are words as well.
    words = [f"dataset.{name}={toml.written(value)}" for name, value in about.items()]
    config = configured(chosen.values, *words, *overrides, overlay=overlay)
    said = read_overrides(overrides)
    prompts = config.samples.prompts or (suggestions.PROMPTS[dataset.subject] if "samples.prompts" not in said else [])
    named_prompts = dict.fromkeys(spoken(prompt, config.dataset.trigger_word) for prompt in prompts)
    changes = {"samples.prompts": list(named_prompts)}
    if chosen.suggests_steps and STEPS not in said:
        changes[STEPS] = suggested_steps(config, len(dataset.pictures), chosen.pace)
    family = families.of(config.model.base_model, config.model.revision)
    if family and "model.family" not in said:
        changes["model.family"] = family.name
    return fields.replace(config, changes)


def suggested_steps(config: TrainConfig, pictures: int, pace: str = "best") -> int:
    """For the pictures that teach, seen as many at a time as this config does."""
    at_once = config.training.train_batch_size * config.training.gradient_accumulation_steps
    return suggestions.steps(max(1, pictures - config.validation.pictures), config.dataset.subject, pace, at_once)


def fitting_preset(subject: str, base_model: str = "") -> str:
    """The best preset for what a dataset is about and for this base (empty: the shipped one).

    A base that no preset names is somebody's own, from the Hub or a folder, and far larger than the shipped one: numbers made for that would
    not fit it. Its family decides; where that is not known before the base is fetched, the first family's does.
    """
    about = [p for p in presets() if p.pace == "best" and p.subject == subject]
    shipped = ModelConfig()
    family = families.of(base_model) if base_model else None
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
            found.append(described(path.stem, path, about, values))
            if quick:
                tables = _sections(quick)
                merged = {name: {**values.get(name, {}), **tables.get(name, {})} for name in {**values, **tables}}
                found.append(described(path.stem + QUICK, path, quick, merged, "quick"))
    return tuple(found)


def described(name: str, path: Path, about: dict, values: dict, pace: str = "best") -> Preset:
    """A preset from what its file says about itself and sets."""
    config = build(values)
    title, description, measured = about.get("title", name), about.get("description", ""), about.get("measured", "estimated")
    return Preset(name, title, description, measured, config.model.family, config.model.base_model, config.dataset.subject, path, pace, values)
