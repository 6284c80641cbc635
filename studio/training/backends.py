"""Execution of training steps on a GPU: eager, one CUDA graph per shape, or compiled blocks. Which are possible, which is fastest, how to apply it.

The timings come from `trial.py`, a process of its own. A way that was chosen and then fails in the run's process is replaced by eager there, with
nothing changed.
"""

import gc
from collections.abc import Callable, Collection

import torch
from torch import Tensor, nn

from studio.config import TrainConfig, optimizers
from studio.config.runtime import EXECUTIONS
from studio.training.batches import Batch
from studio.training.step import FirstUseFailed, TrainingStep, is_cuda_error
from studio.training.verdicts import Result

MAX_TIME_RATIO = 0.97
"""Largest share of eager's total time with which another execution is chosen: timings vary by a few percent, and eager is the most robust."""
ATTEMPTS = {"eager": "running eagerly", "graph": "recording a CUDA graph", "compiled": "compiling"}
"""Execution -> what failed, in a sentence."""
GRAPHS_PER_SHAPE = 4
"""Graphs that one kind of block is compiled to for one input shape: with and without an attention mask, and for inputs that need a gradient or
do not (the first block's do not)."""
MAX_REASON = 160


def available(config: TrainConfig) -> list[str]:
    """Executions that these settings allow, in the order in which they are tried. A CUDA graph holds one forward, no transfer to the host and no
    random number."""
    runtime, training, lora = config.runtime, config.training, config.lora
    if runtime.device != "cuda" or runtime.offload or runtime.quantisation != "none":
        return ["eager"]
    capturable = optimizers.get(training.optimizer).capturable
    # Steps with regularisation images have a second batch.
    single_forward = runtime.processes == 1 and capturable and training.gradient_accumulation_steps == 1 and not config.prior.prompt.strip()
    deterministic = not (runtime.gradient_checkpointing or lora.dropout or lora.text_encoder)
    return ["eager", *(["graph"] if single_forward and deterministic else []), "compiled"]


def select(results: dict[str, Result], steps: int) -> str:
    """The fastest execution for `steps` steps. Compile and capture time counts, so a short run stays eager."""
    totals = {name: (0.0 if name == "eager" else result.preparation_seconds) + steps * result.seconds_per_step for name, result in _timed(results)}
    best = min(totals, key=lambda name: totals[name], default="eager")
    return best if "eager" not in totals or totals[best] < MAX_TIME_RATIO * totals["eager"] else "eager"


def describe(chosen: str, results: dict[str, Result], steps: int, without: str = "") -> str:
    """The choice, the timings and the failures in a few words for the user. `without` names what the timed steps left out."""
    timings = {name: result.seconds_per_step for name, result in _timed(results)}
    failures = [f"{ATTEMPTS[name]} failed: {shorten(result.failed)}" for name, result in results.items() if result.failed]
    if chosen not in timings:
        return f"Running eagerly; {'; '.join(failures)}." if failures else "Running eagerly."
    others = ", ".join(f"{EXECUTIONS[name]} {_per_step(seconds)}" for name, seconds in timings.items() if name != chosen)
    head = "Running eagerly" if chosen == "eager" else f"Execution: {EXECUTIONS[chosen]}"
    measured = f"{head}, {_per_step(timings[chosen])} per step{without}{f' ({others})' if others else ''}"
    fastest = min(timings, key=lambda name: timings[name])
    slow_start = ""
    if chosen == "eager" and timings[fastest] < MAX_TIME_RATIO * timings[chosen]:
        slow_start = f" In {count_steps(steps)} {EXECUTIONS[fastest]} would not save the time that its preparation takes."
    return f"{'; '.join([measured, *failures])}.{slow_start}"


def shorten(reason: str) -> str:
    """The first line of an error, without its full stop."""
    line = next((line.strip() for line in reason.splitlines() if line.strip()), "no reason was given")
    return (line if len(line) <= MAX_REASON else f"{line[:MAX_REASON].rstrip()} ...").removesuffix(".")


def _timed(results: dict[str, Result]) -> list[tuple[str, Result]]:
    return [(name, result) for name, result in results.items() if not result.failed]


def _per_step(seconds: float) -> str:
    return f"{seconds * 1000:.0f} ms" if seconds < 1 else f"{seconds:.2f} s"


def count_steps(count: int) -> str:
    return f"{count:,} step{'' if count == 1 else 's'}"


def apply(training_step: TrainingStep, execution: str, shapes: int = 1, backend: str | Callable = "inductor") -> None:
    """Compile the denoiser's repeated blocks, or undo that. CUDA graphs are dropped; they are captured when a shape first occurs.

    `shapes`: how many shapes of batches the blocks are compiled for. `backend`: of torch.compile.
    """
    training_step.captured.clear()
    training_step.used.clear()
    # Without its graphs the memory pool of the captures has ended too.
    training_step.pool = None
    if execution == "compiled":
        _allow_graphs(kinds_of_blocks(training_step.denoiser, training_step.family.blocks(training_step.denoiser)) * shapes * GRAPHS_PER_SHAPE)
    for block in training_step.family.blocks(training_step.denoiser):
        if execution == "compiled":
            block.compile(dynamic=False, backend=backend)
        else:
            block._compiled_call_impl = None


def kinds_of_blocks(denoiser: nn.Module, blocks: Collection[nn.Module]) -> int:
    """Number of different blocks, at most: those of one class and one set of weight shapes in one list, whose inputs have one size. Levels of a U-Net
    may have the same weights and other inputs."""
    kinds = set()
    for name, module in denoiser.named_modules():
        if any(module is block for block in blocks):
            kinds.add((name.rpartition(".")[0], type(module), tuple(tuple(weight.shape) for weight in module.parameters())))
    return len(kinds)


def _allow_graphs(count: int) -> None:
    """Let torch compile `count` graphs per function. Its default of 8 is reached by the third bucket of a U-Net, and every further shape would
    silently run eagerly; beyond `count` it is an error."""
    from torch._dynamo import config

    config.recompile_limit = max(config.recompile_limit, count)
    config.accumulated_recompile_limit = max(config.accumulated_recompile_limit, count)
    config.fail_on_recompile_limit_hit = True


def cuda_error_advice(error: BaseException, execution: str | None) -> tuple[str, list[dict]] | None:
    """Message after an error of CUDA in a run that is not executed eagerly, and the change that helps: {"title", "set"}. None for other errors."""
    if execution in (None, "eager") or not is_cuda_error(error):
        return None
    message = (
        f"The GPU reported an error, and the steps of this run are executed as {EXECUTIONS[execution]}: {shorten(str(error))}. Start again with "
        "runtime.execution=eager, which is slower and the most robust."
    )
    return message, [{"title": "run eagerly", "set": {"runtime.execution": "eager"}}]


class StepRunner:
    """Runs training steps by `execution`. If that fails when a shape first occurs, the step and all further ones run eagerly.

    `on_fallback` is called with the reason after everything that the failed step changed is restored. An error of CUDA is raised: no kernel runs
    after it in this process.
    """

    def __init__(self, training_step: TrainingStep, execution: str, shapes: int, on_fallback: Callable[[str], None]):
        self.training_step, self.execution, self.on_fallback = training_step, execution, on_fallback
        apply(training_step, execution, shapes)

    def __call__(self, step: int, batches: list[tuple[Batch, float]], rate: float) -> tuple[Tensor, Tensor]:
        try:
            return self.training_step(step, batches, rate, self.execution)
        except FirstUseFailed as error:
            reason = f"{ATTEMPTS[self.execution]} failed: {shorten(str(error))}"
        # Outside the handler, whose traceback keeps the tensors of the failed step.
        self.execution = "eager"
        apply(self.training_step, "eager")
        free_memory(self.training_step.device)
        self.on_fallback(reason)
        return self.training_step(step, batches, rate)


def free_memory(device: torch.device) -> None:
    """Return memory that nothing uses any more to the device."""
    gc.collect()
    if device.type == "cuda":
        torch.cuda.empty_cache()
