"""Everything that only a GPU can show: `python -m studio.benchmark gpu [--minutes 8] [--cases PATTERN ...]`.

Cases run in the order of `studio.benchmark.cases.registry`, the most important first, each in a process of its own with a time limit: an
error, a hang or too little memory costs one case. Every line is printed as soon as it is known. Weights are random, of real widths.
Without a GPU every case is skipped. `--rehearsal` runs the cases on the CPU with tiny models, without compiling: it checks them and
measures nothing.
`--peer SCRIPT` compares another trainer instead; see `studio.benchmark.peer`.

Columns: case; line (a way, a saving, a GPU's size); status (ok, failed, skipped, not run); figures and the reason of another status.

The last line of the output is JSON: gpu, memory_gb, driver, cuda, versions (of packages), commit, rehearsal, minutes, seconds, and lines, a
list of {case, name, status, figures, note}. Keys of figures:

- equal, adapters: whether the bytes of that many LoRAs and of the last checkpoint are equal
- ms_per_step, first_step_s: a step, and the first one with compilation or capture
- loss_difference: largest difference of the first six losses from those of eager and exact, relative
- allocated_gb, reserved_gb, plan_gb, peak_to_plan: peaks of the allocator, and the plan for the step, without the CUDA context
- exact_costs_percent: time of an exact step over that of the same way not exact
- free_gb, images, checkpointing, quantisation, offload, execution, capped_step_to_this: a small GPU, what the plan chose, and its slowdown
- steps, skipped_steps, samples, blank_samples: a short run with a saving; paused_at, blank, seconds: an image of a paused run
- advice, then: number of suggestions after running out of memory, and the state of the next run
- imports_s, loaded_s, two_steps_s, later_step_s: start of a training process; efficiency: floor's time over ours, not exact
"""

import argparse
import fnmatch
import json
import multiprocessing
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from multiprocessing.connection import Connection
from multiprocessing.process import BaseProcess
from pathlib import Path

from rich.console import Console
from rich.table import Table

from studio.benchmark.cases.case import FAILED, NOT_RUN, OK, SKIPPED, Case, Line, Machine, Skipped
from studio.benchmark.cases.children import ChildFailed, finish, in_child, is_gpu_usable, redirect_output, start, summary
from studio.core import packages

ROOT = Path(__file__).parents[2]
PACKAGES = ("torch", "diffusers", "peft", "transformers", "bitsandbytes", "torchao", "triton")
PATIENCE = 2
"""A case may take this many times its rough duration."""
PROBE_SECONDS = 60
WIDTH = 180
"""Columns of the table in a file or a pipe."""
NO_GPU = "no GPU"


def main(argv: list[str]) -> int:
    parser = argparse.ArgumentParser(prog="python -m studio.benchmark gpu", description=__doc__.splitlines()[0])
    parser.add_argument("--minutes", type=float, default=8, help="limit of the whole benchmark (default 8)")
    parser.add_argument("--cases", nargs="+", default=["*"], metavar="PATTERN", help="names of cases, such as 'resume *' (default: all)")
    parser.add_argument("--rehearsal", action="store_true", help="run the cases on the CPU with tiny models, which measures nothing")
    parser.add_argument("--start-method", choices=["fork", "spawn"], help="how processes are started (default: fork where it works, which is faster)")
    parser.add_argument("--list", action="store_true", help="list the cases")
    parser.add_argument("--peer", type=Path, metavar="SCRIPT", help="training script of another trainer; its arguments follow after --")
    parser.add_argument("--peer-python", default=sys.executable, metavar="PYTHON", help="Python that runs it (default: this one)")
    parser.add_argument("--peer-family", default="sdxl", help="family of the base that both train (default sdxl)")
    # argparse would keep the "--" that separates the arguments of the peer.
    ours, peers = (argv[: argv.index("--")], argv[argv.index("--") + 1 :]) if "--" in argv else (argv, [])
    options = parser.parse_args(ours)
    if sys.platform == "win32":
        print("This benchmark needs process groups, which Windows does not have; run it on Linux.")
        return 2
    with tempfile.TemporaryDirectory() as folder:
        machine = Machine("cpu" if options.rehearsal else "cuda", Path(folder), options.start_method or "spawn")
        # A benchmark that is cut short by SIGTERM ends its children too.
        before = signal.signal(signal.SIGTERM, lambda *_: sys.exit(128 + signal.SIGTERM))
        try:
            return run(options, machine, peers)
        finally:
            signal.signal(signal.SIGTERM, before)


def run(options: argparse.Namespace, machine: Machine, peers: list[str]) -> int:
    """What the options ask for, with everything in the machine's folder."""
    can_run = machine.rehearsal or in_child(machine, is_gpu_usable)
    if not can_run:
        print("There is no GPU on this computer, so nothing is measured.")
    elif options.start_method is None:
        machine = fastest_start_method(machine)
    if options.peer:
        from studio.benchmark import peer

        return peer.compare(machine, options.peer, options.peer_python, options.peer_family, peers) if can_run else 0
    from studio.benchmark.cases.registry import registry

    chosen = [case for case in registry() if any(fnmatch.fnmatch(case.name, pattern) for pattern in options.cases)]
    if options.list:
        for case in chosen:
            print(f"{case.name:28} {case.seconds:4} s  {case.about}")
        return 0
    return run_cases(chosen, machine, options.minutes, can_run)


def fastest_start_method(machine: Machine) -> Machine:
    """The machine with fork if a forked child can use the GPU after the imports of a training, which it inherits; bitsandbytes may use CUDA while
    it is imported."""
    import studio.training.loop  # noqa: F401
    from studio.benchmark.cases.bases import real_families
    from studio.families.loading import denoiser_class

    for family in real_families():
        denoiser_class(family)
    forking = replace(machine, start_method="fork")
    try:
        usable = machine.rehearsal or finish(*start(forking, is_gpu_usable), PROBE_SECONDS)
    except ChildFailed:
        usable = False
    return forking if usable else machine


def run_cases(cases: list[Case], machine: Machine, minutes: float, can_run: bool) -> int:
    """Run the cases that fit the time; exit status 1 if a line failed."""
    began = time.monotonic()
    facts = describe_machine(machine) if can_run else {"gpu": None}
    print(json.dumps(facts), flush=True)
    lines: list[tuple[str, Line]] = []
    for case in cases:
        left = 60 * minutes - (time.monotonic() - began)
        for line in lines_of(case, machine, left, can_run):
            lines.append((case.name, line))
            print(f"{time.monotonic() - began:6.0f} s  {case.name}, {line.name}: {line.describe()}", flush=True)
    for name, line in efficiencies(lines):
        lines.append((name, line))
    table = Table("case", "line", "status", "figures", title="GPU (rehearsal on the CPU)" if machine.rehearsal else "GPU")
    for name, line in lines:
        figures = ", ".join(f"{key} {value}" for key, value in line.figures.items())
        table.add_row(name, line.name, line.status, "; ".join(part for part in (figures, line.note) if part))
    console = Console()
    (console if console.is_terminal else Console(width=WIDTH)).print(table)
    output = {
        **facts,
        "rehearsal": machine.rehearsal,
        "minutes": minutes,
        "seconds": round(time.monotonic() - began),
        "lines": [line.as_json(name) for name, line in lines],
    }
    print(json.dumps(output), flush=True)
    return 1 if any(line.status == FAILED for _, line in lines) else 0


def lines_of(case: Case, machine: Machine, left: float, can_run: bool) -> Iterator[Line]:
    """The lines of a case as they become known, or one that says why it does not run."""
    missing = [package for package in case.needs if not packages.installed(package)]
    if not can_run:
        yield Line("all", SKIPPED, note=NO_GPU)
    elif missing:
        yield Line("all", SKIPPED, note=f"not installed: {', '.join(missing)}")
    elif case.gpu_only and machine.rehearsal:
        yield Line("all", SKIPPED, note="a CPU has nothing like it")
    elif case.seconds > left:
        yield Line("all", NOT_RUN, note="no time left")
    else:
        yield from run_apart(case, machine, min(left, PATIENCE * case.seconds))


def run_apart(case: Case, machine: Machine, seconds: float) -> Iterator[Line]:
    """Run a case in a child with a process group of its own; its lines as they arrive, and one for an error or for the time limit."""
    context = multiprocessing.get_context(machine.start_method)
    receiver, sender = context.Pipe(duplex=False)
    log = machine.folder / f"{case.name.replace(' ', '-')}.log"
    process = context.Process(target=_run_case, args=(case, machine, sender, log))  # type: ignore[attr-defined]
    process.start()
    sender.close()
    deadline = time.monotonic() + seconds
    try:
        while receiver.poll(max(0.0, deadline - time.monotonic())):
            line = receiver.recv()
            if line is None:
                return
            yield line
        yield Line("all", FAILED, note=f"killed after {seconds:.0f} s; {tail(log)}")
    except EOFError:
        process.join()
        yield Line("all", FAILED, note=f"the process ended with code {process.exitcode}; {tail(log)}")
    finally:
        end_group(process)


def end_group(process: BaseProcess) -> None:
    """Kill the child and everything that it started."""
    assert process.pid is not None, "It was started."
    try:
        os.killpg(process.pid, signal.SIGKILL)
    except ProcessLookupError:
        process.kill()
    process.join()


def _run_case(case: Case, machine: Machine, sender: Connection, log: Path) -> None:
    os.setpgid(0, 0)
    redirect_output(log)
    if machine.rehearsal:
        # torch.compile takes minutes on a CPU; with this, compiled blocks compute eagerly.
        os.environ.update(TORCHDYNAMO_DISABLE="1")
    report: Callable[[Line], None] = sender.send
    try:
        case.run(machine, report)
    except Skipped as reason:
        report(Line("all", SKIPPED, note=str(reason)))
    except Exception as error:
        report(Line("all", FAILED, note=f"{summary(error)}; {tail(log)}"))
        sender.send(None)
        raise
    sender.send(None)


def tail(log: Path, count: int = 300) -> str:
    """The end of a log on one line."""
    return " ".join(log.read_text(errors="replace")[-count:].split()) if log.exists() else ""


def efficiencies(lines: list[tuple[str, Line]]) -> list[tuple[str, Line]]:
    """Time of the fastest floor divided by that of our fastest way that is not exact, for families with both."""
    times: dict[str, dict[str, list[float]]] = {}
    for case, line in lines:
        kind, _, family = case.partition(" ")
        if kind in ("floor", "ways") and "ms_per_step" in line.figures and not line.name.endswith(" exact"):
            times.setdefault(family, {}).setdefault(kind, []).append(line.figures["ms_per_step"])
    both = {family: found for family, found in times.items() if len(found) == 2}
    return [
        (f"floor {family}", Line("efficiency", OK, {"efficiency": round(min(found["floor"]) / min(found["ways"]), 3)}))
        for family, found in both.items()
    ]


def describe_machine(machine: Machine) -> dict:
    """GPU, driver, versions and commit."""
    # A bare machine has the files only.
    has_git = shutil.which("git") and (ROOT / ".git").exists()
    commit = subprocess.run(["git", "rev-parse", "HEAD"], cwd=ROOT, capture_output=True, text=True).stdout.strip() if has_git else ""
    versions = {name: packages.installed(name) or None for name in PACKAGES}
    return {**in_child(machine, _describe_gpu, machine), "versions": versions, "commit": commit or None}


def _describe_gpu(machine: Machine) -> dict:
    import torch

    from studio.core import platform

    if machine.rehearsal:
        return {"gpu": None, "memory_gb": None, "driver": None, "cuda": None}
    found = torch.cuda.get_device_properties(0)
    return {
        "gpu": found.name,
        "memory_gb": round(found.total_memory / 1e9, 1),
        "driver": platform.nvidia_driver() or None,
        "cuda": torch.version.cuda,
    }
