"""Estimates before a training starts: file size, from the base model's own shapes; time, from earlier runs; memory, as a job measured it."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

from studio import families
from studio.adapters.header import read_header
from studio.config import TrainConfig, optimizers
from studio.core.errors import StudioError
from studio.core.wording import counted
from studio.core.workspace import Workspace
from studio.datasets.dataset import DatasetImage
from studio.devices.footprint import FILE_BYTES
from studio.devices.memory import free_bytes, select_savings
from studio.devices.runtime import quantisation_problem
from studio.jobs.estimates import Estimate
from studio.runs.creation import dataset_notes
from studio.runs.run import Run
from studio.ui.components.html import duration, size

SLOW_PARAMETERS = 300_000_000
"""Denoiser parameters from which training without a GPU gets a warning, before many gigabytes are downloaded."""

NOTED_EXACT_COST = 0.15
"""Share of a step's time from which the cost of exact resume is noted."""


def adapter_bytes(config: TrainConfig) -> int | None:
    """Size of the LoRA file: rank x (in + out) parameters per trained layer; None while the base is not on this computer.

    StudioError when the base's weights exist and cannot be read.
    """
    family = families.detect(config.model.base_model, config.model.revision)
    base = families.locate_base(config.model.base_model, config.model.revision)
    if family is None or base is None:
        return None
    shapes: dict[str, tuple[int, ...]] = {}
    for path in sorted((base.path / family.denoiser_name).glob("*.safetensors")):
        try:
            shapes |= {name: shape for name, (_, shape) in read_header(path).tensors.items()}
        except OSError:
            raise StudioError(f"{path.name} of {base.title} cannot be opened. Download it again, or give yourself permission to read it.") from None
    targets = tuple(f".{target}" for target in config.lora.target_modules or family.target_modules)
    sizes = [
        shape[0] + math.prod(shape[1:])
        for name, shape in shapes.items()
        if len(shape) > 1 and name.endswith(".weight") and f".{name.removesuffix('.weight')}".endswith(targets)
    ]
    return config.lora.rank * sum(sizes) * FILE_BYTES[config.saving.dtype] or None


def seconds_per_step(workspace: Workspace, config: TrainConfig) -> float | None:
    """As measured in the newest run with the same base, resolution and batch size; None without one."""
    for run in Run.all(workspace):
        other = run.config
        same = other.model.base_model == config.model.base_model and other.dataset.resolution == config.dataset.resolution
        same = same and other.training.train_batch_size == config.training.train_batch_size
        if same and (curve := run.curve()) and (pace := curve[-1].get("seconds_per_step")):
            return pace
    return None


def _memory(config: TrainConfig, estimate: Estimate, notes: list[str], cautions: list[str]) -> str:
    """Peak memory of the run. Notes say which memory savings this computer would choose, cautions what does not fit or would be very slow."""
    gpu_bytes = None if config.runtime.device == "cpu" else estimate.free_bytes
    on_gpu = gpu_bytes is not None
    free_ram = free_bytes("cpu")
    free = free_ram if gpu_bytes is None else gpu_bytes
    measured = {"device": "cuda" if on_gpu else "cpu", "dtype": estimate.dtype}
    runtime = config.runtime.model_copy(update=measured | config.runtime.model_dump(exclude_none=True))
    if problem := quantisation_problem(runtime.device, runtime.quantisation):
        cautions.append(problem)
    footprint, dtype = estimate.at_rank(config.lora.rank), runtime.dtype or estimate.dtype
    chosen, message = select_savings(footprint, runtime, config, free, free_ram)
    needed = footprint.plan(config, chosen, dtype).needed(free)
    slow = not on_gpu and footprint.base_parameters >= SLOW_PARAMETERS
    if needed > free:
        cautions.append(message)
    elif on_gpu or slow:
        notes.append(f"{estimate.gpu}: {message}" if on_gpu else message)
    family = families.detect(config.model.base_model, config.model.revision)
    if on_gpu and config.runtime.exact and family and (family.exact_cost or 0) > NOTED_EXACT_COST:
        notes.append(
            f"Exact resume makes a step of {family.title} take about {family.exact_cost:.0%} longer on a GPU. "
            "Without it (runtime.exact) a resumed run ends in slightly different weights."
        )
    if slow:
        cautions.append("No GPU found: training a base this large on the CPU takes hours or days.")
    return f"about {needed / 1e9:.1f} GB of memory"


@dataclass(frozen=True)
class Summary:
    """`parts` are the estimate itself: steps, time, file size, memory; `notes` explain it; `cautions` are to be read before many gigabytes are
    downloaded."""

    parts: tuple[str, ...]
    notes: tuple[str, ...]
    cautions: tuple[str, ...]


def summarize(workspace: Workspace, config: TrainConfig, estimate: Estimate | None = None, images: Sequence[DatasetImage] = ()) -> Summary:
    """Steps, time, file size and memory in one line. `estimate` is what a job measured for this base, `images` those of the dataset. A caution
    explains a missing file size, and names images that are cropped or enlarged."""
    parts = [counted(config.training.max_train_steps, "step")]
    notes: list[str] = []
    cautions = [note] if (note := optimizers.rate_note(config.training.optimizer, config.training.learning_rate)) else []
    if pace := seconds_per_step(workspace, config):
        parts.append(f"about {duration(pace * config.training.max_train_steps)} on this computer")
    else:
        parts.append("time shown after the first steps")
    try:
        if bytes_ := estimate.at_rank(config.lora.rank).adapter_bytes(config.saving.dtype) if estimate else adapter_bytes(config):
            parts.append(f"file size {size(bytes_)}")
    except StudioError as error:
        cautions.append(str(error))
    if estimate:
        parts.append(_memory(config, estimate, notes, cautions))
    offer = families.offer(config.model.base_model)
    if offer and offer.encoder_billions and (config.lora.text_encoder or config.dataset.caption_shuffle):
        reason = "is trained too" if config.lora.text_encoder else "encodes each new order of a caption"
        more = "" if estimate else " more"
        notes.append(f"The text encoder {reason}, so it stays in memory: about {2 * offer.encoder_billions:.1f} GB{more}.")
    cautions += dataset_notes(config, images)
    return Summary(tuple(parts), tuple(notes), tuple(cautions))
