"""Verdicts on executions: timings and failures of earlier trials, one JSON file per key in the studio's home. No torch at import.

The key is everything that decides them: GPU, versions, the denoiser's config, and the settings and shapes of the steps. `backends.select` computes
the choice for any number of steps from a verdict.
"""

import hashlib
import json
from pathlib import Path

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from studio.config import TrainConfig
from studio.core import packages, platform
from studio.core.workspace import write_atomically
from studio.devices.measure import meta_denoiser_of
from studio.families.base import Family
from studio.families.facts import BaseFolder

PACKAGES = ("torch", "triton", "diffusers", "peft", "bitsandbytes")
MORE_FREE_MEMORY = 1.05
"""An execution that ran out of memory is tried again when this times the free memory of then is free."""
OUT_OF_MEMORY = "out of memory"


class Result(BaseModel):
    """What a trial found about one execution: its timings, or why it failed."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    preparation_seconds: float = Field(0.0, ge=0, allow_inf_nan=False)
    """Compilation or capture for all shapes."""
    seconds_per_step: float = Field(0.0, ge=0, allow_inf_nan=False)
    failed: str = ""
    free_bytes: int = 0
    """Free memory before the trial, where it ran out of memory."""

    @property
    def out_of_memory(self) -> bool:
        return OUT_OF_MEMORY in self.failed.lower()


class _File(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)

    key: dict
    results: dict[str, Result]


class Verdict:
    """The results known for one key; `add` also stores them."""

    def __init__(self, folder: Path, key: dict):
        self.key = key
        digest = hashlib.sha256(json.dumps(key, sort_keys=True).encode()).hexdigest()
        self.file = folder / f"{digest}.json"
        self.results = self._load()

    def _load(self) -> dict[str, Result]:
        """Empty for a missing or damaged file: the executions are tried again."""
        try:
            stored = _File.model_validate_json(self.file.read_bytes())
        except (OSError, ValidationError):
            return {}
        return stored.results if stored.key == self.key else {}

    def missing(self, executions: list[str], free_bytes: int) -> list[str]:
        """Those of `executions` that have to be tried."""
        return [name for name in executions if name not in self.results or self._fits_now(self.results[name], free_bytes)]

    def _fits_now(self, result: Result, free_bytes: int) -> bool:
        return result.out_of_memory and free_bytes > MORE_FREE_MEMORY * result.free_bytes

    def add(self, execution: str, result: Result) -> None:
        self.results[execution] = result
        self.file.parent.mkdir(parents=True, exist_ok=True)
        write_atomically(self.file, _File(key=self.key, results=self.results).model_dump_json(indent=1).encode())


def key_of(config: TrainConfig, base: BaseFolder, family: Family, sizes: list[tuple[int, int]], masked: bool) -> dict:
    """Everything that decides how long a step takes. `sizes`: (height, width) of all buckets, in pixels, the most frequent first."""
    runtime, training, lora = config.runtime, config.training, config.lora
    denoiser = meta_denoiser_of(family, base)
    described = {name: value for name, value in denoiser.config.items() if not name.startswith("_")}
    own = hashlib.sha256(json.dumps(described, sort_keys=True, default=str).encode()).hexdigest()
    shapes = [family.input_shapes(denoiser.config, size) for size in sizes]
    return {
        "device": _device(runtime.filled_device),
        "versions": {name: packages.installed(name) for name in PACKAGES},
        "family": family.name,
        "denoiser": own,
        # The first is the one that is timed.
        "shapes": [json.dumps(shapes[0], sort_keys=True), *sorted(json.dumps(each, sort_keys=True) for each in shapes[1:])],
        "masked": masked,
        "lora": lora.model_dump(include={"rank", "method", "target_modules", "dropout", "text_encoder"}),
        "training": training.model_dump(include={"optimizer", "train_batch_size", "gradient_accumulation_steps"}) | {"ema": bool(training.ema_decay)},
        "prior": bool(config.prior.prompt.strip()),
        "runtime": runtime.model_dump(
            include={"dtype", "engine", "exact", "attention", "gradient_checkpointing", "quantisation", "offload", "processes", "threads"}
        ),
    }


def _device(device: str) -> dict[str, str]:
    import torch

    if device != "cuda":
        return {"name": platform.processor()}
    gpu = torch.cuda.get_device_properties(torch.cuda.current_device())
    return {
        "name": gpu.name,
        "memory": str(gpu.total_memory),
        "compute": f"{gpu.major}.{gpu.minor}",
        "driver": platform.nvidia_driver(),
        "cuda": str(torch.version.cuda),
    }
