"""Store of memory footprints: counting one takes seconds, and a second run of the same base and settings needs the same. No torch at import."""

import dataclasses
import hashlib
import json
from pathlib import Path

from studio.config import TrainConfig
from studio.core import packages
from studio.core.workspace import write_atomically
from studio.devices.footprint import Footprint
from studio.families.base import Family
from studio.families.facts import BaseFolder

PACKAGES = ("torch", "diffusers", "peft", "transformers")
"""Packages whose version may change which tensors a step keeps."""
COUNTING = 1
"""Version of `measure`: a change of what it counts gets a new number."""


def load_or_measure(folder: Path, config: TrainConfig, family: Family, base: BaseFolder) -> Footprint:
    """The stored footprint for these settings; measured and stored if there is none, or if its file is damaged."""
    file = folder / f"{hashlib.sha256(json.dumps(_key(config, family, base), sort_keys=True).encode()).hexdigest()}.json"
    try:
        return Footprint(**json.loads(file.read_text(encoding="utf-8")))
    except (OSError, ValueError, TypeError):
        pass
    from studio.devices.measure import measure

    footprint = measure(config, family, base)
    assert footprint is not None, "A base with a folder can be measured."
    folder.mkdir(parents=True, exist_ok=True)
    write_atomically(file, json.dumps(dataclasses.asdict(footprint)).encode())
    return footprint


def _key(config: TrainConfig, family: Family, base: BaseFolder) -> dict:
    """Everything that a footprint depends on."""
    lora, samples = config.lora, config.samples
    return {
        "counting": COUNTING,
        "versions": {name: packages.installed(name) for name in PACKAGES},
        "family": family.name,
        "base": [base.id, base.reference, base.revision],
        "configs": [base.component_config(part) for part in (family.denoiser_name, "vae")] + [base.component_config("", "model_index.json")],
        "lora": [lora.method, lora.rank, lora.dropout, lora.target_modules, lora.text_encoder],
        "sizes": [config.dataset.resolution, config.runtime.filled_engine, samples.resolution, samples.guidance_scale > 1],
        "math attention": config.runtime.attention == "math",
    }
