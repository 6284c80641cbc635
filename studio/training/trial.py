"""Trial of executions, in a process that ends before the run loads anything: `python -m studio.training.trial`.

It reads one line of JSON from stdin (`Request`), builds the run's denoiser with random weights, and writes one line of JSON per execution: timings,
or why it failed. After a failure it ends: a CUDA error cannot be recovered in the same process. Nothing here touches the run.
"""

import json
import os
import sys

if __name__ == "__main__":
    # Before the other imports, which take seconds: the parent may end meanwhile.
    from studio.core import logging as studio_logging
    from studio.core import platform

    REQUEST = sys.stdin.readline()
    platform.end_with_parent(sys.stdin)
    studio_logging.configure("trial")

import time
from collections import Counter
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
from accelerate import init_empty_weights
from diffusers import ModelMixin

from studio import families
from studio.config import TrainConfig, fields
from studio.datasets.buckets import family_buckets
from studio.devices import runtime
from studio.families.base import Family
from studio.families.facts import BaseFolder
from studio.families.loading import denoiser_class
from studio.runs.run import Run
from studio.training import backends
from studio.training.batches import Batch
from studio.training.distributed import ProcessGroup
from studio.training.encoding_cache import Conditions
from studio.training.examples import split_validation
from studio.training.lora import add_lora
from studio.training.parameters import TrainedParameters
from studio.training.step import FirstUseFailed, TrainingStep

TIMED_STEPS = 10
FEWEST_TIMED_STEPS, TIMED_SECONDS = 3, 10.0
"""Of steps that take seconds, fewer are timed: as many as fit into these seconds."""
PROMPT_TOKENS = 128
"""Tokens of a prompt where a family trims its padding: captions have 20 to 80, and a set is padded to its longest."""
SPREAD = 0.02
"""Standard deviation of the random weights. Constant ones would make a GPU look faster, because they flip fewer bits."""

Size = tuple[int, int]


@dataclass(frozen=True)
class Request:
    """What a trial needs to know; as JSON on the child's stdin."""

    config: TrainConfig
    base: BaseFolder
    sizes: list[Size]
    """(height, width) of the run's buckets in pixels, the most frequent first."""
    masked: bool
    """Whether images have loss masks."""
    executions: list[str]
    backend: str = "inductor"
    """Backend of torch.compile."""

    def to_json(self) -> dict:
        base = {name: str(value) if isinstance(value, Path) else value for name, value in asdict(self.base).items()}
        values = {"sizes": self.sizes, "masked": self.masked, "executions": self.executions, "backend": self.backend}
        return {"config": self.config.model_dump(mode="json"), "base": base, **values}

    @classmethod
    def from_json(cls, values: dict) -> "Request":
        base: dict[str, Any] = {name: Path(value) if name in ("path", "checkpoint") and value else value for name, value in values["base"].items()}
        sizes = [(height, width) for height, width in values["sizes"]]
        return cls(TrainConfig.model_validate(values["config"]), BaseFolder(**base), sizes, values["masked"], values["executions"], values["backend"])


class RandomConditions:
    """Conditions of a base for any captions: random numbers of its shapes; every token is part of the prompt.

    They are on the CPU as in `ConditionCache`, which pads them (with a mask) unless steps run eagerly. Where text encoders are trained they are on
    the device, and gradients flow into them.
    """

    def __init__(self, family: Family, denoiser: "ModelMixin", size: Size, dtype: torch.dtype, trained_on: torch.device | None):
        device = trained_on or torch.device("cpu")
        self.rows: dict[bool, Conditions] = {False: {}, True: {}}
        for padded, row in self.rows.items():
            for name, shape in family.trimmed_input_shapes(denoiser.config, size, PROMPT_TOKENS, padded).items():
                if name.endswith("_mask"):
                    row[name] = torch.ones((1, *shape), dtype=torch.bool, device=device)
                elif name != "latents":
                    row[name] = torch.randn((1, *shape), device=device).to(dtype).requires_grad_(trained_on is not None)

    def __call__(self, captions: list[str], one_length: bool = False) -> Conditions:
        return {name: torch.cat([row] * len(captions)) for name, row in self.rows[one_length].items()}


def bucket_sizes(run: Run, config: TrainConfig, base: BaseFolder, family: Family) -> list[Size]:
    """(height, width) in pixels of the buckets of the images that are trained on, the most frequent first."""
    images, _ = split_validation(run.snapshot["pictures"], config.validation.pictures, config.training.seed)
    table = family_buckets(family, base, config.dataset.resolution, config.runtime.filled_engine)
    counts = Counter(table.nearest(image["height"], image["width"]) for image in images)
    if config.prior.prompt.strip():
        side = config.dataset.resolution
        counts.setdefault(table.nearest(side, side), 0)
    return [size for size, _ in sorted(counts.items(), key=lambda counted: (-counted[1], counted[0]))]


def random_denoiser(family: Family, base: BaseFolder, device: torch.device, dtype: torch.dtype) -> "ModelMixin":
    """The base's denoiser with random weights, created on the device. Buffers have their real values, since only parameters begin as meta tensors."""
    config = {name: value for name, value in base.component_config(family.denoiser_name).items() if not name.startswith("_")}
    with init_empty_weights():
        denoiser = denoiser_class(family).from_config(config)
    # As `from_pretrained` does: it casts what files contain, and no buffer where a class keeps some modules in float32.
    kept = denoiser._keep_in_fp32_modules or []
    for name, weight in denoiser.named_parameters():
        module = denoiser.get_submodule(name.rpartition(".")[0])
        made = torch.empty(weight.shape, device=device, dtype=torch.float32 if set(kept) & set(name.split(".")) else dtype).normal_(0, SPREAD)
        module.register_parameter(name.rpartition(".")[2], torch.nn.Parameter(made, requires_grad=False))
    stored = denoiser.state_dict()
    for name, buffer in denoiser.named_buffers():
        buffer.data = buffer.data.to(device, dtype if name in stored and buffer.is_floating_point() and not kept else buffer.dtype)
    return denoiser.eval()


def build(request: Request) -> tuple[TrainingStep, list[list[tuple[Batch, float]]]]:
    """The training step as `loop.train` makes it, and the random batches of a step for each of the first two sizes.

    Text encoders are left out: they run eagerly in every execution, so they add the same time to each.
    """
    config = fields.replace(request.config, {"lora.text_encoder": False, "runtime.processes": 1})
    family, base, training = families.get(config.model.family), request.base, config.training
    runtime.apply(config.runtime)
    device, dtype = torch.device(config.runtime.filled_device), runtime.torch_dtype(config.runtime.filled_dtype)
    denoiser = random_denoiser(family, base, device, dtype)
    pipeline = family.load(base, dtype, parts=())
    pipeline.register_modules(**{family.denoiser_name: denoiser})
    parameters = TrainedParameters(add_lora(pipeline, config, family, dtype), training, config.runtime.filled_engine)
    if config.runtime.gradient_checkpointing:
        family.enable_gradient_checkpointing(denoiser)
    shapes = [family.input_shapes(denoiser.config, size) for size in request.sizes]
    conditions = RandomConditions(family, denoiser, request.sizes[0], dtype, trained_on=device if request.config.lora.text_encoder else None)
    training_step = TrainingStep(config, family, pipeline, family.objective(pipeline, device), parameters, conditions, ProcessGroup())
    training_step.train_mode()

    def batch(latents: tuple[int, ...]) -> tuple[Batch, float]:
        shape = (training.train_batch_size, *latents)
        mask = torch.ones(shape[0], 1, *shape[2:]) if request.masked else None
        captions = ["a caption"] * training.train_batch_size
        return Batch(torch.randn(shape), torch.randn(shape), torch.rand(shape[0], dtype=torch.float64), captions, mask), 1 / count

    count = training.gradient_accumulation_steps * (2 if config.prior.prompt.strip() else 1)
    return training_step, [[batch(each["latents"]) for _ in range(count)] for each in shapes[:2]]


def time_execution(
    training_step: TrainingStep, steps: list[list[tuple[Batch, float]]], execution: str, request: Request, progress: Callable[[], None]
) -> dict[str, float]:
    """Seconds of compilation or capture for all sizes, and seconds per step of the most frequent size."""

    def seconds(batches: list[tuple[Batch, float]], count: int = 1) -> float:
        began = time.monotonic()
        for _ in range(count):
            training_step(0, batches, request.config.training.learning_rate, execution)
        if training_step.device.type == "cuda":
            torch.cuda.synchronize()
        progress()
        return (time.monotonic() - began) / count

    backends.apply(training_step, execution, len(request.sizes), request.backend)
    first = seconds(steps[0])
    # The first compilation starts torch's compiler too, so that the other sizes take less.
    others = [seconds(each) for each in steps[1:]] * (len(request.sizes) - 1)
    per_step = seconds(steps[0])
    per_step = seconds(steps[0], min(TIMED_STEPS, max(FEWEST_TIMED_STEPS, round(TIMED_SECONDS / per_step))))
    return {"preparation_seconds": max(0.0, first + sum(others) - len(request.sizes) * per_step), "seconds_per_step": per_step}


def main(request: Request, write: Callable[[dict], None]) -> None:
    """Try each execution of the request, and end with the first that fails."""
    training_step, steps = build(request)
    write({"ready": True})
    for execution in request.executions:
        try:
            timings = time_execution(training_step, steps, execution, request, lambda: write({"alive": True}))
        except (FirstUseFailed, RuntimeError) as error:
            write({"execution": execution, "failed": backends.shorten(str(error)) if str(error) else type(error).__name__})
            return
        write({"execution": execution, **timings})
        backends.apply(training_step, "eager")
        backends.free_memory(training_step.device)


def _lines_to_parent() -> Callable[[dict], None]:
    """Writes JSON lines to stdout, which from now on is the log for everybody else: libraries print, and their processes would keep the pipe open."""
    pipe = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)

    def write(report: dict) -> None:
        pipe.write(json.dumps(report) + "\n")
        pipe.flush()

    return write


if __name__ == "__main__":
    report = _lines_to_parent()
    try:
        main(Request.from_json(json.loads(REQUEST)), report)
    except RuntimeError as error:
        # torch.OutOfMemoryError, or a GPU that cannot be used.
        report({"failed": backends.shorten(str(error))})
        raise
