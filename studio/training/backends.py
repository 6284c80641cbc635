"""How steps are run on a card: as they come, with their blocks compiled, or recorded whole. Timed on the real thing, kept for the whole run.

What is timed is put back afterwards, so a run's numbers do not depend on how long anybody measured.
"""

import time

import torch

from studio.config import TrainConfig, optimizers
from studio.training.batches import Batch
from studio.training.step import Update

WAYS = ("eager", "compiled", "graph")
TIMED_STEPS = 10
WORTH = 0.97
"""Another way has to be that much quicker in all: the clock wavers by a few percent, and eager has the fewest surprises."""


def possible(config: TrainConfig, extra_batches: bool) -> list[str]:
    """The ways that these settings allow. A recording holds one forward and nothing that asks the host or draws chance on the way."""
    runtime, training, lora = config.runtime, config.training, config.lora
    if runtime.device != "cuda" or runtime.offload or runtime.quantisation != "none":
        return ["eager"]
    recordable = optimizers.get(training.optimizer).recordable
    whole = runtime.processes == 1 and recordable and training.gradient_accumulation_steps == 1 and not extra_batches
    still = not (runtime.gradient_checkpointing or lora.dropout or lora.text_encoder)
    return ["eager", "compiled", *(["graph"] if whole and still else [])]


def fastest(update: Update, batches: list[tuple[Batch, float]], rate: float, steps: int, ways: list[str]) -> tuple[str, str]:
    """(the quickest way for `steps` steps, a sentence about it). Time to prepare counts: a short run does not wait for a compiler."""
    if ways == ["eager"]:
        return "eager", ""
    kept, paces, failed = update.snapshot(), {}, []
    for how in ways:
        began = time.monotonic()
        try:
            prepare(update, how)
            update(0, batches, rate, how)
            torch.cuda.synchronize()
            ready = time.monotonic()
            for _ in range(TIMED_STEPS):
                update(0, batches, rate, how)
            torch.cuda.synchronize()
            paces[how] = (ready - began, (time.monotonic() - ready) / TIMED_STEPS)
        except RuntimeError as error:
            # A kernel that a recording or the compiler cannot take; the others still can.
            failed.append(f"{how} was not possible here ({str(error).splitlines()[0][:120]})")
    prepare(update, "eager")
    update.put_back(kept)
    in_all = {how: (0.0 if how == "eager" else waiting) + steps * pace for how, (waiting, pace) in paces.items()}
    best = min(in_all, key=lambda how: in_all[how])
    chosen = best if in_all[best] < WORTH * in_all["eager"] else "eager"
    figures = ", ".join(f"{how} {pace * 1000:.0f} ms" for how, (_, pace) in paces.items())
    return chosen, f"Steps are run {chosen}: {'; '.join([figures, *failed])} a step."


def prepare(update: Update, how: str) -> None:
    """Compile the denoiser's repeated blocks, each kind once, or take that back; recordings are made when a shape first comes."""
    update.recordings.clear()
    for block in update.family.blocks(update.denoiser):
        if how == "compiled":
            block.compile(dynamic=False)
        else:
            block._compiled_call_impl = None
