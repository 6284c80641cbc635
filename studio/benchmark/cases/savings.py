"""Runs with each saving and precision, with samples during training, and an image that is generated while a run is paused."""

import math
import time
from dataclasses import dataclass
from multiprocessing.connection import Connection
from multiprocessing.process import BaseProcess
from pathlib import Path

from PIL import Image

from studio import families
from studio.benchmark.cases.bases import NO_SAVINGS, PROMPT, make_run, saved_base
from studio.benchmark.cases.case import FAILED, OK, SKIPPED, Case, Line, Machine, Report
from studio.benchmark.cases.children import ChildFailed, finish_run, in_child, start_run, wait_for
from studio.benchmark.cases.resume import FAMILY, PIXELS
from studio.benchmark.cases.ways import gigabytes
from studio.config.recipe import Recipe
from studio.core import packages
from studio.families.loading import QUANTISATION_PACKAGES
from studio.generation.generator import Generator
from studio.runs.run import Run

AT_ONCE = 3
"""Runs side by side: these are checks of results, not of speed."""
SAMPLES = (f'samples.prompts=["{PROMPT}"]', "samples.num_inference_steps=2", "runtime.execution=eager")


@dataclass(frozen=True)
class Variant:
    name: str
    overrides: tuple[str, ...] = ()
    package: str = ""
    gpu_only: bool = False


def variants() -> list[Variant]:
    quantised = [Variant(name, (f"runtime.quantisation={name}",), package, True) for name, package in QUANTISATION_PACKAGES.items()]
    offload = ("runtime.offload=true", "runtime.gradient_checkpointing=true")
    return [
        Variant("samples"),
        *quantised,
        Variant("offload", offload, gpu_only=True),
        Variant("offload nf4", (*offload, "runtime.quantisation=nf4"), QUANTISATION_PACKAGES["nf4"], True),
        Variant("checkpointed", ("runtime.gradient_checkpointing=true",)),
        Variant("float16", ("runtime.dtype=float16",)),
        Variant("float32", ("runtime.dtype=float32",)),
        Variant("math attention", ("runtime.attention=math",)),
    ]


def case() -> Case:
    return Case("savings", "quantised, offloaded, float16 and other runs, with samples during training", 150, train_variants)


def drawing_case() -> Case:
    return Case("draw during training", "an image of a paused run, which then ends in the same bytes", 60, draw_during_training)


def train_variants(machine: Machine, report: Report) -> None:
    base, waiting = saved_base(machine, families.get(FAMILY), "shallow"), variants()
    while waiting:
        started: list[tuple[Variant, Run, tuple[BaseProcess, Connection]]] = []
        while waiting and len(started) < AT_ONCE:
            variant = waiting.pop(0)
            if reason := why_not(variant, machine):
                report(Line(variant.name, SKIPPED, note=reason))
                continue
            run = make_run(machine, "savings", families.get(FAMILY), base, PIXELS, *NO_SAVINGS, *SAMPLES, *variant.overrides)
            started.append((variant, run, start_run(machine, run)))
        for variant, run, child in started:
            try:
                report(trained(variant.name, run, finish_run(run, *child)))
            except ChildFailed as error:
                report(Line(variant.name, FAILED, note=str(error)))


def why_not(variant: Variant, machine: Machine) -> str:
    if variant.package and not packages.installed(variant.package):
        return f"the package {variant.package} is not installed"
    return "needs a GPU" if variant.gpu_only and machine.rehearsal else ""


def trained(name: str, run: Run, result: dict) -> Line:
    """Whether all losses are finite, the LoRA changed and the samples are not one colour. Random bases may overflow in float16: that is a note."""
    losses = [step["loss"] for step in run.curve()]
    notes = [event["message"] for event in run.events()[0] if event["kind"] == "note" and "black" in event["message"]]
    skipped = len(run.curve("skipped"))
    figures = {
        "steps": len(losses) + skipped,
        "skipped_steps": skipped,
        "samples": len(sample_files(run)),
        "blank_samples": sum(is_blank(file) for file in sample_files(run)),
        **({"allocated_gb": gigabytes(result["allocated"])} if result["allocated"] is not None else {}),
    }
    good = all(math.isfinite(loss) for loss in losses) and figures["steps"] == run.config.training.max_train_steps and not figures["blank_samples"]
    return Line(name, OK if good and figures["samples"] else FAILED, figures, notes[0] if notes else "")


def sample_files(run: Run) -> list[Path]:
    return sorted(run.samples_dir.glob("*/*.png"))


def is_blank(file: Path) -> bool:
    """Whether an image has a single colour."""
    with Image.open(file) as image:
        return len(image.convert("RGB").getcolors(image.width * image.height) or []) == 1


def draw_during_training(machine: Machine, report: Report) -> None:
    """Pause a run, generate an image with its newest LoRA in another process, let it go on, and compare it with a run that was left alone."""
    family = families.get(FAMILY)
    base = saved_base(machine, family, "shallow")
    alone, paused = (make_run(machine, "drawing", family, base, PIXELS, *NO_SAVINGS, "runtime.execution=eager", title="Drawing") for _ in range(2))
    finish_run(alone, *start_run(machine, alone))
    paused.request_pause()
    process, receiver = start_run(machine, paused)
    # The first pause is before the first step; the second is somewhere between two steps.
    wait_for(lambda: paused.state == "paused", process)
    paused.clear_pause()
    wait_for((paused.checkpoints_dir / "step-000003").exists, process)
    paused.request_pause()
    if not wait_for(lambda: paused.state == "paused", process):
        raise ChildFailed("The run ended before it was paused.")
    adapter = paused.latest_adapter()
    assert adapter is not None, "A pause after the first step saves a LoRA."
    seconds = in_child(machine, draw, machine, base.path, adapter, paused.path / "drawn.png", log=machine.folder / "draw.log")
    paused.clear_pause()
    finish_run(paused, process, receiver)
    last = paused.config.training.max_train_steps
    equal = alone.adapter_at(last).read_bytes() == paused.adapter_at(last).read_bytes()
    figures = {"paused_at": int(adapter.stem.rpartition("-")[2]), "equal": equal, "blank": is_blank(paused.path / "drawn.png"), "seconds": seconds}
    report(Line("paused run", OK if equal and not figures["blank"] else FAILED, figures))


def draw(machine: Machine, base: Path, adapter: Path, target: Path) -> float:
    """Generate one image in this process; returns its seconds, loading included."""
    began, family, folder = time.perf_counter(), families.get(FAMILY), families.resolve_base(str(base))
    side = machine.side(PIXELS)
    recipe = Recipe(prompt=PROMPT, family=family.name, base_model=str(base), num_inference_steps=2, width=side, height=side)
    generator = Generator(folder, family, device=machine.device, dtype=machine.dtype)
    generator.generate(recipe, [(adapter, 1.0)]).save(target)
    return round(time.perf_counter() - began, 1)
