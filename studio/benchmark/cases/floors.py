"""The floor arm beside the ways of the studio: the same call of the denoiser in a bare loop, eager, compiled and as a CUDA graph."""

import functools
import statistics

from studio import families
from studio.benchmark import train
from studio.benchmark.arms import Program
from studio.benchmark.cases.bases import real_families, real_offer, saved_base, settings
from studio.benchmark.cases.case import FAILED, SKIPPED, Case, Line, Machine, Report
from studio.benchmark.cases.children import in_child
from studio.benchmark.cases.resume import EXECUTIONS
from studio.core.workspace import new_id

TURNS, STEPS = 2, 10


def cases() -> dict[str, Case]:
    """Family -> its case."""
    return {
        family.name: Case(
            f"floor {family.name}",
            f"{real_offer(family).title} at {real_offer(family).resolution}: a bare training loop",
            180 if family.name == "flux" else 110,
            functools.partial(time_floor, family.name),
        )
        for family in real_families()
    }


def time_floor(name: str, machine: Machine, report: Report) -> None:
    family = families.get(name)
    base, pixels = saved_base(machine, family, "real"), real_offer(family).resolution
    config = settings(machine, family, str(base.path), pixels)
    folder = machine.folder / new_id(f"floor {name}")
    folder.mkdir()
    plan = in_child(machine, train.recorded_call, family, base, config, folder, machine.device, machine.dtype, 1, log=folder / "record.log")
    for execution in EXECUTIONS:
        if machine.rehearsal and execution == "graph":
            report(Line(execution, SKIPPED, note="a CPU has no CUDA graphs"))
            continue
        try:
            arm = Program(f"floor {execution}", "floor.py", train.write_plan(folder / execution, plan | {"how": execution}))
        except SystemExit as error:
            report(Line(execution, FAILED, note=str(error)[-300:]))
            continue
        for _ in range(TURNS):
            arm.take_turn(STEPS)
        arm.end()
        figures = {"ms_per_step": round(statistics.median(arm.seconds) * 1000, 1)}
        report(Line(execution, figures=figures | ({"allocated_gb": round(arm.peak_mb / 1000, 2)} if arm.peak_mb else {})))
