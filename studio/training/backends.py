"""Execution of training steps on a GPU: eager, compiled blocks, or CUDA graphs. The fastest is chosen by timing real steps, once per run.

Everything that the timed steps change is restored afterwards, so the result of a run does not depend on the timing.
"""

import time

import torch

from studio.config import TrainConfig, optimizers
from studio.training.batches import Batch
from studio.training.step import TrainingStep

EXECUTIONS = ("eager", "compiled", "graph")
TIMED_STEPS = 10
MAX_TIME_RATIO = 0.97
"""Largest share of eager's total time with which another execution is chosen: timings vary by a few percent, and eager is the most robust."""


def available(config: TrainConfig, extra_batches: bool) -> list[str]:
    """Executions that these settings allow. A CUDA graph holds one forward, no transfer to the host and no random number."""
    runtime, training, lora = config.runtime, config.training, config.lora
    if runtime.device != "cuda" or runtime.offload or runtime.quantisation != "none":
        return ["eager"]
    capturable = optimizers.get(training.optimizer).capturable
    single_forward = runtime.processes == 1 and capturable and training.gradient_accumulation_steps == 1 and not extra_batches
    deterministic = not (runtime.gradient_checkpointing or lora.dropout or lora.text_encoder)
    return ["eager", "compiled", *(["graph"] if single_forward and deterministic else [])]


def select_fastest(
    training_step: TrainingStep, batches: list[tuple[Batch, float]], rate: float, steps: int, executions: list[str]
) -> tuple[str, str]:
    """(fastest execution for `steps` steps, a note with the timings). Compile and capture time counts, so a short run stays eager."""
    if executions == ["eager"]:
        return "eager", ""
    saved, timings, failed = training_step.snapshot(), {}, []
    for execution in executions:
        began = time.monotonic()
        try:
            apply(training_step, execution)
            training_step(0, batches, rate, execution)
            torch.cuda.synchronize()
            ready = time.monotonic()
            for _ in range(TIMED_STEPS):
                training_step(0, batches, rate, execution)
            torch.cuda.synchronize()
            timings[execution] = (ready - began, (time.monotonic() - ready) / TIMED_STEPS)
        except RuntimeError as error:
            # A kernel that cannot be captured or compiled; the other executions still work.
            failed.append(f"{execution} was not possible here ({str(error).splitlines()[0][:120]})")
    apply(training_step, "eager")
    training_step.restore(saved)
    totals = {name: (0.0 if name == "eager" else preparation) + steps * seconds for name, (preparation, seconds) in timings.items()}
    best = min(totals, key=lambda name: totals[name])
    chosen = best if totals[best] < MAX_TIME_RATIO * totals["eager"] else "eager"
    measured = ", ".join(f"{name} {seconds * 1000:.0f} ms per step" for name, (_, seconds) in timings.items())
    return chosen, f"Execution: {chosen}. Measured: {'; '.join([measured, *failed])}."


def apply(training_step: TrainingStep, execution: str) -> None:
    """Compile the denoiser's repeated blocks, or undo that. CUDA graphs are dropped; they are captured when a shape first occurs."""
    training_step.captured.clear()
    for block in training_step.family.blocks(training_step.denoiser):
        if execution == "compiled":
            block.compile(dynamic=False)
        else:
            block._compiled_call_impl = None
