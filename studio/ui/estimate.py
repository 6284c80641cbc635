"""How large the file will be and how long learning takes, before it starts: from the base model's own shapes, and from runs so far."""

import json
import math
import struct
from pathlib import Path

from studio import families
from studio.builtin import MODEL_DIR
from studio.config import TrainConfig
from studio.runs import Run
from studio.ui.html import duration, size
from studio.workspace import Workspace

BYTES_A_NUMBER = 4
LARGEST_HEADER = 8_000_000


def adapter_bytes(config: TrainConfig) -> int | None:
    """rank x (in + out) numbers for each layer that learns; None while the base is not on this computer."""
    folder = MODEL_DIR if config.model.base_model == families.BUILTIN_ID else Path(config.model.base_model)
    family = families.get(config.model.family)
    here = folder.is_absolute() and not families.on_another_computer(config.model.base_model)
    weights = sorted((folder / family.denoiser_name).glob("*.safetensors")) if here else []
    if not weights:
        return None
    wanted = tuple(config.lora.target_modules or family.target_modules)
    sizes = [
        shape[0] + math.prod(shape[1:])
        for name, shape in _shapes(weights[0])
        if name.endswith(".weight") and name.removesuffix(".weight").endswith(wanted)
    ]
    return config.lora.rank * sum(sizes) * BYTES_A_NUMBER or None


def _shapes(path: Path) -> list[tuple[str, list[int]]]:
    with open(path, "rb") as file:
        (length,) = struct.unpack("<Q", file.read(8))
        header = json.loads(file.read(min(length, LARGEST_HEADER)))
    return [(name, entry["shape"]) for name, entry in header.items() if name != "__metadata__"]


def seconds_a_step(workspace: Workspace, config: TrainConfig) -> float | None:
    """As measured in the newest run with the same base, size and batch."""
    for run in Run.all(workspace):
        other = run.config
        same = other.model.base_model == config.model.base_model and other.dataset.resolution == config.dataset.resolution
        if same and other.training.train_batch_size == config.training.train_batch_size and (curve := run.curve()):
            return curve[-1]["seconds_per_step"]
    return None


def sentence(workspace: Workspace, config: TrainConfig) -> str:
    """What the numbers mean together."""
    parts = [f"{config.training.max_train_steps:,} steps"]
    if pace := seconds_a_step(workspace, config):
        parts.append(f"about {duration(pace * config.training.max_train_steps)} here")
    else:
        parts.append("time shown after the first steps")
    if bytes_ := adapter_bytes(config):
        parts.append(f"a file of {size(bytes_)}")
    return ", ".join(parts)
