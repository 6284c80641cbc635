"""Small GPUs: runs whose memory settings are all left open, on a GPU with as much free memory as a smaller one has."""

import functools
import json
from dataclasses import dataclass

from studio import families
from studio.benchmark.cases.ballast import leaving
from studio.benchmark.cases.bases import PROMPT, make_run, saved_base
from studio.benchmark.cases.case import FAILED, Case, Line, Machine, Report
from studio.benchmark.cases.children import ChildFailed, finish_run, start_run
from studio.benchmark.cases.ways import gigabytes
from studio.families.base import Family
from studio.runs.run import Run

SETTINGS = (f'samples.prompts=["{PROMPT}"]', "training.max_train_steps=6")


@dataclass(frozen=True)
class Cap:
    """A base at a resolution on a GPU of a size."""

    family: str
    pixels: int
    gpu_gb: int
    seconds: int

    @property
    def free(self) -> int:
        """Free bytes: the driver and the desktop take about 1 GB."""
        return (self.gpu_gb - 1) * 10**9

    @property
    def name(self) -> str:
        return f"{self.family} {self.gpu_gb} GB"


CAPS = (Cap("sdxl", 1024, 12, 150), Cap("stable-diffusion", 512, 6, 100), Cap("flux", 1024, 16, 200), Cap("flux", 1024, 12, 120))
"""Goals: a plan that fits by itself, from loading to a sample."""


def cases() -> list[Case]:
    about = "chosen savings, peak, slowdown"
    return [Case(f"small GPU {cap.name}", f"{cap.pixels} pixels: {about}", cap.seconds, functools.partial(train_capped, cap)) for cap in CAPS]


def train_capped(cap: Cap, machine: Machine, report: Report) -> None:
    """Train to a sample with the memory of the small GPU, then compare the step with that of the whole GPU."""
    family = families.get(cap.family)
    base = saved_base(machine, family, "real")
    # A home of its own: nothing is encoded yet.
    run = make_run(machine, f"cap-{cap.family}-{cap.gpu_gb}", family, base, cap.pixels, *SETTINGS)
    with leaving(machine, cap.free) as left:
        process, receiver = start_run(machine, run)
        try:
            result = finish_run(run, process, receiver)
        except ChildFailed as error:
            report(Line(f"{cap.gpu_gb} GB", FAILED, {"free_gb": gigabytes(left)}, str(error)))
            return
    figures = {"free_gb": gigabytes(left), **describe(run, result)}
    report(Line(f"{cap.gpu_gb} GB", figures=figures, note=plan_note(run)))
    whole = whole_gpu(machine, family, cap)
    ratio = figures["ms_per_step"] / whole["ms_per_step"]
    report(Line("whole GPU", figures={**whole, "capped_step_to_this": round(ratio, 2)}))


def whole_gpu(machine: Machine, family: Family, cap: Cap) -> dict:
    """The same run with all memory, made once per base and resolution."""
    file = machine.folder / f"whole-{cap.family}-{cap.pixels}.json"
    if not file.exists():
        run = make_run(machine, f"whole-{cap.family}", family, saved_base(machine, family, "real"), cap.pixels, *SETTINGS)
        file.write_text(json.dumps(describe(run, finish_run(run, *start_run(machine, run)))))
    return json.loads(file.read_text())


def describe(run: Run, result: dict) -> dict:
    """Speed, peaks and chosen savings of a finished run."""
    runtime, images = run.config.runtime, sorted(run.samples_dir.glob("*/*.png"))
    return {
        "ms_per_step": round(run.curve()[-1]["seconds_per_step"] * 1000, 1),
        "images": len(images),
        "checkpointing": runtime.gradient_checkpointing,
        "quantisation": runtime.quantisation,
        "offload": runtime.offload,
        "execution": runtime.execution,
        **{f"{name}_gb": gigabytes(result[name]) for name in ("allocated", "reserved") if result[name] is not None},
    }


def plan_note(run: Run) -> str:
    """The note of the memory plan at the start of the run."""
    return next((event["message"] for event in run.events()[0] if event["kind"] == "note" and event["message"].startswith("Free memory")), "")
