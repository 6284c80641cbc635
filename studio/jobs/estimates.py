"""Memory estimate of a training run before it starts: measured once per base and size by a job, then cached in the home.

No torch here; the job's process imports it. A LoRA's parameters grow linearly with its rank, so measuring two ranks covers all.
"""

import dataclasses
import hashlib
import json
from pathlib import Path

from studio import families
from studio.config import TrainConfig, fields
from studio.core import platform
from studio.core.errors import StudioError
from studio.core.imports import without_garbage_collection
from studio.core.workspace import Home, write_atomically
from studio.devices.footprint import Footprint
from studio.jobs.progress import ProgressReporter
from studio.jobs.queue import Job

RANKS = (8, 16)
NAMES_IN_FILE = {
    "base_numbers": "base_parameters",
    "adapter_numbers": "adapter_parameters",
    "resident_numbers": "resident_parameters",
    "numbers_a_rank": "parameters_per_rank",
    "card": "gpu",
}
"""Keys of the cached JSON file -> attributes."""


@dataclasses.dataclass(frozen=True)
class Estimate:
    """Estimate for one base at one resolution. `free_bytes` and `gpu` describe the GPU when it was measured; None without a GPU. `dtype` is the
    precision of the best device on this computer for such a base."""

    footprint: Footprint
    parameters_per_rank: int
    free_bytes: int | None
    gpu: str | None
    dtype: str = "bfloat16"

    def at_rank(self, rank: int) -> Footprint:
        return dataclasses.replace(
            self.footprint, adapter_parameters=self.footprint.adapter_parameters + (rank - RANKS[1]) * self.parameters_per_rank
        )


def load_estimate(home: Home, config: TrainConfig) -> Estimate | None:
    """The cached estimate for these settings, or None."""
    try:
        stored = json.loads(_file(home, config).read_text(encoding="utf-8"))
        footprint = {NAMES_IN_FILE.get(name, name): value for name, value in stored.pop("footprint").items()}
        return Estimate(Footprint(**footprint), **{NAMES_IN_FILE.get(name, name): value for name, value in stored.items()})
    except (OSError, ValueError, KeyError, TypeError):
        return None


def can_estimate(config: TrainConfig) -> bool:
    """Whether a job could measure it: the base is on this computer, or the studio knows its shapes. LoKr's size does not follow its rank."""
    offer = families.offer(config.model.base_model)
    here = families.locate_base(config.model.base_model, config.model.revision) is not None
    return config.lora.method != "lokr" and (here or bool(offer and offer.denoiser is not None))


def estimate_job(home: Home, job: Job, report: ProgressReporter, secret: bytes | None) -> dict:
    """{"config"} -> {}: measure and cache the estimate."""
    # The page and the browser beside it come first.
    platform.be_nice()
    with without_garbage_collection():
        import torch

        from studio.devices import memory, runtime
        from studio.devices.measure import count_adapter_parameters, measure

    config = TrainConfig.model_validate(job.payload["config"])
    base = families.locate_base(config.model.base_model, config.model.revision)
    family = families.from_folder(base, config.model.family) if base else families.get(config.model.family)
    # Without alpha, which follows the rank.
    lower, higher = (fields.replace(config, {"lora.rank": rank, "lora.alpha": None}) for rank in RANKS)
    footprint = measure(higher, family, base)
    if footprint is None:
        raise StudioError(f"The memory for {config.model.base_model!r} cannot be estimated before the base is downloaded; download it first.")
    has_gpu = torch.cuda.is_available()
    device = "cuda" if has_gpu else "cpu"
    names_in_code = {code: file for file, code in NAMES_IN_FILE.items()}
    estimate = {
        "footprint": {names_in_code.get(name, name): value for name, value in dataclasses.asdict(footprint).items()},
        "numbers_a_rank": (footprint.adapter_parameters - count_adapter_parameters(lower, family, base)) // (RANKS[1] - RANKS[0]),
        "free_bytes": memory.free_bytes(device) if has_gpu else None,
        "card": torch.cuda.get_device_name() if has_gpu else None,
        "dtype": runtime.precision(device, footprint.base_parameters, family.float16)[0],
    }
    path = _file(home, config)
    path.parent.mkdir(parents=True, exist_ok=True)
    write_atomically(path, json.dumps(estimate).encode())
    return {}


def key(config: TrainConfig) -> str:
    """Cache key: every setting that the estimate depends on."""
    settings: list[object] = [config.model.family, config.model.base_model, config.model.revision, config.dataset.resolution]
    settings += [config.lora.method, config.lora.target_modules, config.lora.text_encoder]
    settings += [config.samples.resolution, config.samples.guidance_scale > 1, config.runtime.attention]
    return f"estimate-{hashlib.sha256(json.dumps(settings).encode()).hexdigest()[:32]}"


def _file(home: Home, config: TrainConfig) -> Path:
    return home.root / "estimates" / f"{key(config)}.json"
