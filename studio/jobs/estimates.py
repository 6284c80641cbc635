"""What a training will take, known before it starts: counted once by a child for each base and size, kept, and answered from then on at once.

No torch here; the child imports it. A LoRA's numbers grow evenly with its rank, so one counting at two ranks answers for all.
"""

import dataclasses
import hashlib
import json
from pathlib import Path

from studio import families
from studio.config import TrainConfig, fields
from studio.core.errors import StudioError
from studio.core.workspace import Home, write_atomically
from studio.devices.footprint import Footprint
from studio.jobs.progress import Report
from studio.jobs.queue import Job

RANKS = (8, 16)


@dataclasses.dataclass(frozen=True)
class Estimate:
    """Of one base at one picture size. `free_bytes` and `card` are of the graphics card when it was counted; None without one. `dtype` is what
    the best device here computes such a base in."""

    footprint: Footprint
    numbers_a_rank: int
    free_bytes: int | None
    card: str | None
    dtype: str = "bfloat16"

    def at_rank(self, rank: int) -> Footprint:
        return dataclasses.replace(self.footprint, adapter_numbers=self.footprint.adapter_numbers + (rank - RANKS[1]) * self.numbers_a_rank)


def known(home: Home, config: TrainConfig) -> Estimate | None:
    """What was counted for such settings; None when nobody has yet."""
    try:
        said = json.loads(_file(home, config).read_text(encoding="utf-8"))
        return Estimate(Footprint(**said.pop("footprint")), **said)
    except (OSError, ValueError, KeyError, TypeError):
        return None


def countable(config: TrainConfig) -> bool:
    """Whether a child could count it: the base is here, or one whose shapes the studio knows. LoKr's size does not follow its rank."""
    offer = families.offer(config.model.base_model)
    here = families.locate_base(config.model.base_model, config.model.revision) is not None
    return config.lora.method != "lokr" and (here or bool(offer and offer.denoiser is not None))


def estimate_job(home: Home, job: Job, report: Report, secret: bytes | None) -> dict:
    """{"config"} -> {}: counts, and keeps what it counted for everybody."""
    import torch

    from studio.devices import memory, runtime
    from studio.devices.measure import measure

    config = TrainConfig.model_validate(job.payload["config"])
    base = families.locate_base(config.model.base_model, config.model.revision)
    family = families.from_folder(base, config.model.family) if base else families.get(config.model.family)
    # Without alpha, which follows the rank.
    counted = [measure(fields.replace(config, {"lora.rank": rank, "lora.alpha": None}), family, base) for rank in RANKS]
    if counted[1] is None:
        raise StudioError(f"The shapes of {config.model.base_model!r} are not known before it is fetched.")
    card = torch.cuda.is_available()
    device = "cuda" if card else "cpu"
    said = {
        "footprint": dataclasses.asdict(counted[1]),
        "numbers_a_rank": (counted[1].adapter_numbers - counted[0].adapter_numbers) // (RANKS[1] - RANKS[0]),
        "free_bytes": memory.free_bytes(device) if card else None,
        "card": torch.cuda.get_device_name() if card else None,
        "dtype": runtime.precision(device, counted[1].base_numbers),
    }
    path = _file(home, config)
    path.parent.mkdir(parents=True, exist_ok=True)
    write_atomically(path, json.dumps(said).encode())
    return {}


def key(config: TrainConfig) -> str:
    """All that the counting depends on, and nothing else."""
    about = [config.model.family, config.model.base_model, config.model.revision, config.dataset.resolution]
    about += [config.lora.method, config.lora.target_modules, config.lora.text_encoder]
    return f"estimate-{hashlib.sha256(json.dumps(about).encode()).hexdigest()[:32]}"


def _file(home: Home, config: TrainConfig) -> Path:
    return home.root / "estimates" / f"{key(config)}.json"
