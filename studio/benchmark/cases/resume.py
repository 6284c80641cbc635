"""Equal bytes of a run that is repeated, and of one that is killed and resumed, on SDXL's real widths with few blocks."""

import functools
import hashlib

from studio import families
from studio.benchmark.cases.bases import NO_SAVINGS, make_run, saved_base
from studio.benchmark.cases.case import FAILED, OK, Case, Line, Machine, Report
from studio.benchmark.cases.children import ChildFailed, finish, finish_run, start_run, wait_for
from studio.benchmark.kill import hashes
from studio.config import TrainConfig, fields, optimizers
from studio.runs.run import Run

FAMILY, PIXELS = "sdxl", 512
KILLED_AT = "step-000006"
"""Checkpoint after which the run is killed."""
EXECUTIONS = next(leaf.choices for leaf in fields.leaves(TrainConfig()) if leaf.path == "runtime.execution") or ()


def cases_of_executions() -> list[Case]:
    return [
        Case(
            f"resume {execution}",
            f"{execution}: the same bytes twice, and after SIGKILL",
            120 if execution == "compiled" else 45,
            functools.partial(compare, f"resume-{execution}", [f"runtime.execution={execution}"]),
            gpu_only=execution == "graph",
        )
        for execution in EXECUTIONS
    ]


def cases_of_optimizers() -> list[Case]:
    """Every optimizer but the default one, which the executions have."""
    return [
        Case(
            f"resume {entry.name}",
            f"{entry.title}: the same bytes twice, and after SIGKILL",
            40,
            functools.partial(compare, f"resume-{entry.name}", ["runtime.execution=eager", *optimizer_settings(entry)]),
            needs=() if entry.package == "torch" else (entry.package,),
            gpu_only=entry.package == "bitsandbytes",
        )
        for entry in optimizers.OPTIMIZERS
        if entry.name != TrainConfig().training.optimizer
    ]


def optimizer_settings(entry: optimizers.Optimizer) -> list[str]:
    return [f"training.optimizer={entry.name}", *(["training.learning_rate=1.0"] if entry.finds_rate else [])]


def compare(home: str, overrides: list[str], machine: Machine, report: Report) -> None:
    """Train three runs at once, kill one of them, resume it, and compare the bytes. Each process has empty caches of its own for compiled kernels."""
    family = families.get(FAMILY)
    base = saved_base(machine, family, "shallow")
    shared = (*NO_SAVINGS, "training.ema_decay=0.9", "validation.pictures=1", "validation.every=5", *overrides)
    first, again, killed = (make_run(machine, home, family, base, PIXELS, *shared, title="Resume") for _ in range(3))
    started = {run.id: start_run(machine, run, empty_caches(run, 1)) for run in (first, again, killed)}
    process, receiver = started[killed.id]
    reached = wait_for((killed.checkpoints_dir / KILLED_AT).exists, process)
    process.kill()
    lost = ""
    try:
        finish(process, receiver)
        lost = "The run ended before it could be killed."
    except ChildFailed as error:
        lost = "" if reached else str(error)
    for run in (first, again):
        finish_run(run, *started[run.id])
    report(compared("twice", first, again))
    if lost:
        report(Line("after SIGKILL", FAILED, note=lost))
        return
    finish_run(killed, *start_run(machine, killed, empty_caches(killed, 2)))
    report(compared("after SIGKILL", first, killed))


def empty_caches(run: Run, number: int) -> dict[str, str]:
    folder = run.path / f"compiled-{number}"
    return {"TORCHINDUCTOR_CACHE_DIR": str(folder / "inductor"), "TRITON_CACHE_DIR": str(folder / "triton")}


def compared(name: str, expected: Run, found: Run) -> Line:
    """Whether the LoRAs and the last checkpoints of two runs have the same bytes."""
    adapters, states = hashes(expected), [last_state(run) for run in (expected, found)]
    same_adapters, same_state = adapters == hashes(found), states[0] == states[1]
    figures = {"equal": same_adapters and same_state, "adapters": len(adapters)}
    if all(figures.values()):
        return Line(name, OK, figures)
    what = "the LoRAs differ" if not same_adapters else "the LoRAs are equal, the states of the optimizer differ"
    return Line(name, FAILED, figures, f"{what}; largest difference of the losses {loss_difference(expected, found):.2g}")


def last_state(run: Run) -> str:
    """SHA-256 of the newest checkpoint."""
    newest = max(run.checkpoints_dir.glob("step-*/state.safetensors"))
    return hashlib.sha256(newest.read_bytes()).hexdigest()


def loss_difference(expected: Run, found: Run) -> float:
    pairs = zip(expected.curve(), found.curve())
    return max((abs(a["loss"] - b["loss"]) for a, b in pairs), default=0.0)
