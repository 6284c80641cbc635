"""How large the file will be and how long learning takes, before it starts: from the base model's own shapes, and from runs so far."""

import math
from dataclasses import dataclass

from studio import families
from studio.adapters.header import read_header
from studio.config import TrainConfig
from studio.core.errors import StudioError
from studio.core.workspace import Workspace
from studio.devices.footprint import FILE_BYTES
from studio.devices.memory import free_bytes, select_savings
from studio.jobs.estimates import Estimate
from studio.runs.run import Run
from studio.ui.components.html import duration, size

SLOW_NUMBERS = 300_000_000
"""Of a denoiser: from there on a person should know what learning without a graphics card means, before many gigabytes are fetched."""


def adapter_bytes(config: TrainConfig) -> int | None:
    """rank x (in + out) numbers for each layer that learns; None while the base is not on this computer.

    StudioError when its weights are there and cannot be read.
    """
    family = families.detect(config.model.base_model, config.model.revision)
    base = families.locate_base(config.model.base_model, config.model.revision)
    if family is None:
        return None
    shapes = {}
    for path in sorted((base.path / family.denoiser_name).glob("*.safetensors")) if base else []:
        try:
            shapes |= {name: shape for name, (_, shape) in read_header(path).tensors.items()}
        except OSError:
            raise StudioError(f"{path.name} of {base.title} cannot be opened; get that file again, or let yourself read it.") from None
    wanted = tuple(f".{target}" for target in config.lora.target_modules or family.target_modules)
    sizes = [
        shape[0] + math.prod(shape[1:])
        for name, shape in shapes.items()
        if len(shape) > 1 and name.endswith(".weight") and f".{name.removesuffix('.weight')}".endswith(wanted)
    ]
    return config.lora.rank * sum(sizes) * FILE_BYTES[config.saving.dtype] or None


def seconds_a_step(workspace: Workspace, config: TrainConfig) -> float | None:
    """As measured in the newest run with the same base, size and batch."""
    for run in Run.all(workspace):
        other = run.config
        same = other.model.base_model == config.model.base_model and other.dataset.resolution == config.dataset.resolution
        if same and other.training.train_batch_size == config.training.train_batch_size and (curve := run.curve()):
            return curve[-1]["seconds_per_step"]
    return None


def _memory(config: TrainConfig, counted: Estimate, notes: list[str], cautions: list[str]) -> str:
    """The memory at the peak of a step; told beside it is what this computer would save on the way, and whether it is made for it."""
    on_card = counted.free_bytes is not None and config.runtime.device != "cpu"
    free = counted.free_bytes if on_card else free_bytes("cpu")
    known = {"device": "cuda" if on_card else "cpu", "dtype": counted.dtype}
    asked = config.runtime.model_copy(update=known | config.runtime.model_dump(exclude_none=True))
    footprint = counted.at_rank(config.lora.rank)
    chosen, words = select_savings(footprint, asked, config.training, free)
    needed = footprint.memory(config.training, chosen["gradient_checkpointing"], chosen["quantisation"], chosen["offload"], asked.dtype)
    slow = not on_card and footprint.base_parameters >= SLOW_NUMBERS
    if needed > free:
        cautions.append(words)
    elif on_card or slow:
        notes.append(f"{counted.gpu}: {words}" if on_card else words)
    if slow:
        cautions.append("There is no graphics card here: a base this large takes hours or days on a processor.")
    return f"about {needed / 1e9:.1f} GB of memory"


@dataclass(frozen=True)
class Said:
    """`line` is what matters; `notes` explain it; `cautions` are to be read before many gigabytes are fetched."""

    line: str
    notes: tuple[str, ...]
    cautions: tuple[str, ...]


def said(workspace: Workspace, config: TrainConfig, counted: Estimate | None = None) -> Said:
    """What the numbers mean together, with what a child has counted for this base; and why the file's size cannot be told, where the base's
    weights cannot be read."""
    parts, notes, cautions = [f"{config.training.max_train_steps:,} steps"], [], []
    if pace := seconds_a_step(workspace, config):
        parts.append(f"about {duration(pace * config.training.max_train_steps)} here")
    else:
        parts.append("time shown after the first steps")
    try:
        if bytes_ := counted.at_rank(config.lora.rank).adapter_bytes(config.saving.dtype) if counted else adapter_bytes(config):
            parts.append(f"a file of {size(bytes_)}")
    except StudioError as error:
        cautions.append(str(error))
    if counted:
        parts.append(_memory(config, counted, notes, cautions))
    offer = families.offer(config.model.base_model)
    if offer and offer.encoder_billions and (config.lora.text_encoder or config.dataset.caption_shuffle):
        why = "learns too" if config.lora.text_encoder else "reads each new order of a caption"
        notes.append(f"The text encoder {why}, so it stays in memory: about {2 * offer.encoder_billions:.1f} GB more.")
    return Said(", ".join(parts), tuple(notes), tuple(cautions))
