"""Ways of computing a step (execution, gradient checkpointing, exact or not): seconds, losses against eager, and peak memory against the plan."""

import functools
import gc
import time
from dataclasses import dataclass

import torch

from studio import families
from studio.benchmark.cases.bases import real_families, real_offer, saved_base, settings
from studio.benchmark.cases.case import FAILED, OK, SKIPPED, Case, Line, Machine, Report
from studio.benchmark.cases.children import summary
from studio.benchmark.cases.resume import EXECUTIONS
from studio.benchmark.cases.steps import Bench, peaks
from studio.config import TrainConfig, fields
from studio.devices import runtime
from studio.devices.footprint import FIXED_BYTES, Savings
from studio.devices.measure import measure
from studio.families.base import Family
from studio.training import backends

COMPARED_STEPS, TIMED_STEPS = 6, 10
LARGEST_RATIO = 1.10
"""Peak divided by plan above which a line fails."""
SECONDS = {"flux": 200, "sdxl": 160}
OTHER_SECONDS = 80


@dataclass(frozen=True)
class Way:
    execution: str
    checkpointing: bool
    exact: bool

    @property
    def name(self) -> str:
        checkpointing = " checkpointed" if self.checkpointing else ""
        return f"{self.execution}{checkpointing}{' exact' if self.exact else ''}"


def ways() -> list[Way]:
    """Checkpointing comes last, because it cannot be switched off in every denoiser. A CUDA graph cannot hold it."""
    found = [Way(execution, False, exact) for execution in EXECUTIONS for exact in (True, False)]
    return found + [Way(EXECUTIONS[0], True, exact) for exact in (True, False)]


def cases() -> dict[str, Case]:
    """Family -> its case."""
    found = {}
    for family in real_families():
        offer = real_offer(family)
        about = f"{offer.title} at {offer.resolution}: speed, losses and peak memory of every way"
        seconds = SECONDS.get(family.name, OTHER_SECONDS)
        found[family.name] = Case(f"ways {family.name}", about, seconds, functools.partial(compare_ways, family.name))
    return found


def compare_ways(name: str, machine: Machine, report: Report) -> None:
    """A line per way. The first, eager and exact, gives the losses that the others are compared with."""
    family = families.get(name)
    config = filled_config(machine, family)
    base = saved_base(machine, family, "tiny") if machine.rehearsal else None
    footprint = measure(config, family, base)
    assert footprint is not None, "A listed base can be measured."
    bench, expected, timed = Bench(machine, family, config, COMPARED_STEPS + TIMED_STEPS), None, {}
    for way in ways():
        if machine.rehearsal and way.execution == "graph":
            report(Line(way.name, SKIPPED, note="a CPU has no CUDA graphs"))
            continue
        changed = fields.replace(config, {"runtime.exact": way.exact, "runtime.execution": way.execution})
        bench.config = fields.replace(changed, {"runtime.gradient_checkpointing": way.checkpointing})
        plan = footprint.plan(bench.config, Savings(way.checkpointing), machine.dtype).step - FIXED_BYTES
        try:
            figures, losses = run_way(bench, way)
        except torch.OutOfMemoryError as error:
            report(Line(way.name, FAILED, {"plan_gb": gigabytes(plan)}, summary(error)))
        except RuntimeError as error:
            # A kernel that cannot be compiled or captured; the other ways still work.
            report(Line(way.name, FAILED, note=summary(error)))
        else:
            expected = losses if expected is None else expected
            timed[way] = figures["ms_per_step"]
            report(judged(way, figures, plan, relative_difference(losses, expected), timed, machine))
        free_memory(machine)


def filled_config(machine: Machine, family: Family) -> TrainConfig:
    """Settings of the listed base, with everything that a run decides at its start."""
    offer = real_offer(family)
    config = settings(machine, family, offer.id, offer.resolution)
    chosen = runtime.resolve(fields.replace(config, {"runtime.dtype": machine.dtype}).runtime)
    values = {**chosen.model_dump(), "gradient_checkpointing": False, "quantisation": "none", "offload": False, "execution": "eager"}
    return fields.replace(config, {f"runtime.{name}": value for name, value in values.items()})


def run_way(bench: Bench, way: Way) -> tuple[dict, list[float]]:
    """(seconds and peaks, losses of the first steps) of one way."""
    reset, read = peaks(bench.machine)
    runtime.apply(bench.config.runtime)
    torch.compiler.reset()
    if way.checkpointing:
        bench.family.enable_gradient_checkpointing(bench.denoiser)
    training_step = bench.new_step()
    reset()
    began = time.perf_counter()
    backends.apply(training_step, way.execution)
    try:
        losses = bench.run(training_step, 0, 1, way.execution)
        bench.synchronise()
        first_step = time.perf_counter() - began
        losses += bench.run(training_step, 1, COMPARED_STEPS - 1, way.execution)
        bench.synchronise()
        began = time.perf_counter()
        bench.run(training_step, COMPARED_STEPS, TIMED_STEPS, way.execution)
        bench.synchronise()
        seconds = (time.perf_counter() - began) / TIMED_STEPS
        allocated, reserved = read()
    finally:
        backends.apply(training_step, "eager")
    figures = {
        "ms_per_step": round(seconds * 1000, 1),
        "first_step_s": round(first_step, 1),
        "allocated_gb": gigabytes(allocated),
        "reserved_gb": gigabytes(reserved),
    }
    return figures, [loss.item() for loss in losses]


def judged(way: Way, figures: dict, plan: float, difference: float, timed: dict[Way, float], machine: Machine) -> Line:
    """The line of a way; failed if its peak exceeds the plan. In a rehearsal the peak is that of the whole process, and is not judged."""
    ratio = figures["allocated_gb"] * 1e9 / plan
    figures = {**figures, "plan_gb": gigabytes(plan), "peak_to_plan": round(ratio, 2), "loss_difference": float(f"{difference:.2g}")}
    if exact := timed.get(Way(way.execution, way.checkpointing, True)) if not way.exact else None:
        figures["exact_costs_percent"] = round(100 * (exact / figures["ms_per_step"] - 1), 1)
    if ratio > LARGEST_RATIO and not machine.rehearsal:
        return Line(way.name, FAILED, figures, f"the peak is above {LARGEST_RATIO} of the plan")
    return Line(way.name, OK, figures)


def relative_difference(found: list[float], expected: list[float]) -> float:
    """Largest difference of two curves, relative to the expected one."""
    return max(abs(a - b) / abs(b) for a, b in zip(found, expected, strict=True))


def gigabytes(count: float) -> float:
    return round(count / 1e9, 2)


def free_memory(machine: Machine) -> None:
    gc.collect()
    if not machine.rehearsal:
        torch.cuda.empty_cache()
