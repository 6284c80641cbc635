"""Time to the first step of a training process, phase by phase: imports, plan and encoders, denoiser, first kernels, later steps."""

import subprocess
import time

from studio import families
from studio.benchmark.cases.bases import make_run, saved_base
from studio.benchmark.cases.case import Case, Line, Machine, Report
from studio.benchmark.cases.children import ChildFailed
from studio.core import platform
from studio.families.base import Family
from studio.runs.run import Run

IMPORTS = "import studio.training.loop, diffusers, peft, transformers"


def case() -> Case:
    return Case("first step", "seconds of each phase until the first step", 90, time_first_step)


def time_first_step(machine: Machine, report: Report) -> None:
    """A line without cached encodings and one with them, as in a resume."""
    family = families.get("sdxl")
    base = saved_base(machine, family, "real")
    began = time.perf_counter()
    subprocess.run([*platform.module_command("timeit", "-n", "1", "-r", "1", IMPORTS)], env=platform.environment(), capture_output=True, check=True)
    imports = time.perf_counter() - began
    for name in ("not encoded yet", "encoded"):
        report(Line(name, figures={"imports_s": round(imports, 2), **phases(machine, family, base)}))


def phases(machine: Machine, family: Family, base) -> dict[str, float]:
    """Seconds from the start of the process to the event "started" (encoded and loaded), to the first step and to a later one."""
    run = make_run(machine, "first-step", family, base, 1024, "runtime.execution=eager", "training.max_train_steps=4")
    started = time.time()
    log = run.path / "log"
    with open(log, "wb") as output:
        command = platform.module_command("studio.training.loop", run.path)
        code = subprocess.run(command, env=platform.environment(), stdout=output, stderr=output).returncode
    if code:
        raise ChildFailed(f"The training process ended with code {code}: {log.read_text()[-300:]}")
    return durations(run, started)


def durations(run: Run, started: float) -> dict[str, float]:
    events = run.events()[0]
    loaded = next(event["time"] for event in events if event["kind"] == "started")
    # Steps are read from the GPU several at a time; the preflight follows the second one immediately.
    second = next(event["time"] for event in events if event["kind"] == "preflight")
    return {
        "loaded_s": round(loaded - started, 2),
        "two_steps_s": round(second - loaded, 3),
        "later_step_s": round(run.curve()[-1]["seconds_per_step"], 3),
    }
