"""Kill trainings anywhere, resume them, compare the LoRA's bytes: `python -m studio.benchmark kill --runs N`.

One process imports torch and forks a child per attempt. Children die by SIGKILL at every point where the disk is touched (before,
inside and after each write, rename, removal and event) and at random instants; every run is then resumed to its end and its
LoRAs are compared with those of a run nobody touched.
"""

import argparse
import hashlib
import json
import logging
import multiprocessing
import multiprocessing.connection
import os
import random
import shutil
import signal
import sys
import tempfile
import threading
import time
import warnings
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import torch
from rich.console import Console
from rich.progress import track
from rich.table import Table
from tqdm import tqdm

from studio.runs.creation import create_run
from studio.runs.run import Run
from studio.training.checkpoints import Disk

CHECKPOINT_EVERY = 3
SETTINGS = {
    "dataset": {"resolution": 64, "trigger_word": "ohwx", "caption_dropout": 0.2, "flip": True},
    "lora": {"rank": 4, "alpha": 8.0, "dropout": 0.1},
    "training": {
        "max_train_steps": 12,
        "train_batch_size": 2,
        "gradient_accumulation_steps": 2,
        "learning_rate": 1e-3,
        "lr_scheduler": "cosine",
        "lr_warmup_steps": 2,
        "ema_decay": 0.9,
    },
    "validation": {"pictures": 1, "every": 5},
    "samples": {"prompts": ["[trigger] picture of a cat"], "every": 4, "num_inference_steps": 2},
    "saving": {"checkpoint_every": CHECKPOINT_EVERY},
    "runtime": {"threads": 1, "device": "cpu"},
}


class Clock:
    """Counts the points a run passes, and ends the process at one of them as a power switch would."""

    def __init__(self, dies_at: int | None):
        self.passed = 0
        self.dies_at = dies_at

    def tick(self) -> None:
        self.passed += 1
        if self.passed == self.dies_at:
            os.kill(os.getpid(), signal.SIGKILL)


class DeadlyDisk(Disk):
    """A disk during which the process may die before, inside and after each operation."""

    def __init__(self, clock: Clock):
        self.clock = clock

    def write(self, path: Path, data: bytes) -> None:
        self.clock.tick()
        path.write_bytes(data[: len(data) // 2])
        self.clock.tick()
        super().write(path, data)
        self.clock.tick()

    def rename(self, source: Path, target: Path) -> None:
        self.clock.tick()
        super().rename(source, target)
        self.clock.tick()

    def remove(self, folder: Path) -> None:
        self.clock.tick()
        next(folder.iterdir()).unlink()
        self.clock.tick()
        super().remove(folder)
        self.clock.tick()


class DeadlyRun(Run):
    """A run whose event log may be cut off in the middle of a line."""

    clock: Clock

    def append(self, event: dict) -> None:
        self.clock.tick()
        length = self.events_file.stat().st_size if self.events_file.exists() else 0
        super().append(event)
        if self.clock.passed + 1 == self.clock.dies_at:
            os.truncate(self.events_file, (length + self.events_file.stat().st_size) // 2)
        self.clock.tick()


@dataclass
class Outcome:
    """What became of one run."""

    how: str
    kills: int
    identical: bool
    lost_steps: int
    reason: str = ""


class Bench:
    """A tiny model, a template run, and the LoRAs of the run nobody touched."""

    def __init__(self, folder: Path):
        from studio import config
        from studio.benchmark.tiny import TinyDataset, save_tiny_model
        from studio.core.workspace import Workspace
        from studio.families import get, resolve_base

        self.folder = folder
        model = save_tiny_model(folder / "model")
        settings = config.build({**SETTINGS, "model": {"base_model": str(model)}})
        self.template = create_run(Workspace(folder / "home", "bench"), settings, TinyDataset(folder / "pictures"))
        # Loading once pulls in what the libraries import late; every child then has it.
        get("stable-diffusion").load(resolve_base(str(model)), torch.float32)
        self.fork = multiprocessing.get_context("fork")
        untouched = self.copy("untouched")
        points = self.fork.Value("i", 0)
        began = time.monotonic()
        child = self.start(untouched, None, points)
        child.join()
        self.seconds = time.monotonic() - began
        if child.exitcode != 0:
            raise SystemExit(f"The run nobody touched failed:\n{(untouched.path / 'log').read_text()}")
        self.points = points.value
        self.expected = hashes(untouched)

    def copy(self, name: str) -> Run:
        target = self.folder / "home" / "runs" / name
        shutil.copytree(self.template.path, target)
        return Run(target)

    def start(self, run: Run, dies_at: int | None, points=None):
        child = self.fork.Process(target=train_in_child, args=(run.path, dies_at, points))
        child.start()
        return child

    def kill_at_point(self, point: int) -> Outcome:
        run = self.copy(f"point-{point}")
        child = self.start(run, point)
        child.join()
        return self.finish(run, f"point {point}", 1 if child.exitcode == -signal.SIGKILL else 0)

    def kill_at_random(self, number: int) -> Outcome:
        """One to three kills at random instants, most of them after the imports and before the end."""
        chance = random.Random(number)
        run, kills = self.copy(f"random-{number}"), 0
        for _ in range(chance.randint(1, 3)):
            child = self.start(run, None)
            child.join(chance.uniform(0, self.seconds))
            if child.is_alive():
                child.kill()
                kills += 1
            child.join()
        return self.finish(run, f"random {number}", kills)

    def finish(self, run: Run, how: str, kills: int) -> Outcome:
        child = self.start(run, None)
        child.join()
        reason = ""
        if child.exitcode != 0:
            reason = f"resume failed: {(run.path / 'log').read_text().strip().splitlines()[-1:]}"
        elif hashes(run) != self.expected:
            reason = "other bytes"
        outcome = Outcome(how, kills, not reason, lost_steps(run), reason)
        if not reason:
            shutil.rmtree(run.path)
        return outcome


def train_in_child(path: Path, dies_at: int | None, points) -> None:
    from studio.training.loop import train

    log = os.open(path / "log", os.O_CREAT | os.O_WRONLY | os.O_TRUNC)
    os.dup2(log, sys.stderr.fileno())
    clock = Clock(dies_at)
    run = DeadlyRun(path)
    run.clock = clock
    with run.lock():
        train(run, DeadlyDisk(clock))
    if points is not None:
        points.value = clock.passed


def hashes(run: Run) -> dict[int, str]:
    """step -> sha256 of every LoRA saved."""
    return {step: hashlib.sha256(path.read_bytes()).hexdigest() for step, path in run.adapters()}


def lost_steps(run: Run) -> int:
    """The most steps that had to be done again after one kill."""
    lost, reached = 0, 0
    for event in run.events()[0]:
        if event["kind"] == "started":
            lost, reached = max(lost, reached - event["step"]), event["step"]
        elif event["kind"] == "step":
            reached = event["step"]
    return lost


def run_kills(runs: int, folder: Path, quiet: bool = False) -> tuple[Bench, list[Outcome]]:
    """Every point once if there are runs enough, else evenly spread ones for half of them; the rest at random instants."""
    import studio.training.loop  # noqa: F401 - imported before the first fork, so that no child pays for it

    # tqdm's own lock is shared with forked processes: one killed while it held that lock stopped all others for ever.
    tqdm.set_lock(threading.RLock())
    bench = Bench(folder)
    chosen = min(bench.points, runs if runs >= bench.points else runs // 2)
    points = [1 + round(i * (bench.points - 1) / max(1, chosen - 1)) for i in range(chosen)]
    tasks = [(bench.kill_at_point, point) for point in points] + [(bench.kill_at_random, number) for number in range(runs - chosen)]
    return bench, list(track(in_lanes(bench.fork, tasks), total=len(tasks), description="killing", disable=quiet, console=Console(stderr=True)))


def in_lanes(fork, tasks: list[tuple]) -> Iterator[Outcome]:
    """Do the tasks in one process per core, and yield their outcomes as they come."""
    lanes = []
    count = os.cpu_count() or 1
    for lane in range(count):
        ours, theirs = fork.Pipe(duplex=False)
        process = fork.Process(target=work_through, args=(tasks[lane::count], theirs))
        process.start()
        theirs.close()
        lanes.append(ours)
    while lanes:
        for ready in multiprocessing.connection.wait(lanes):
            try:
                yield ready.recv()
            except EOFError:
                lanes.remove(ready)


def work_through(tasks: list[tuple], results) -> None:
    for kill, number in tasks:
        results.send(kill(number))


def main(argv: list[str]) -> int:
    parser = argparse.ArgumentParser(prog="python -m studio.benchmark kill", description=__doc__.splitlines()[0])
    parser.add_argument("--runs", type=int, default=300, help="how many trainings are killed and resumed (default 300)")
    options = parser.parse_args(argv)
    if sys.platform == "win32":
        print("This benchmark forks, which Windows cannot; run it on Linux or macOS.")
        return 2
    # No thread may exist when we fork: a pool's threads do not survive it, and the first wait for them would last for ever.
    os.environ["OMP_NUM_THREADS"] = "1"
    warnings.filterwarnings("ignore", category=DeprecationWarning, message=".*fork.*")
    logging.disable(logging.WARNING)

    began = time.monotonic()
    with tempfile.TemporaryDirectory() as folder:
        bench, outcomes = run_kills(options.runs, Path(folder))
    bad = [outcome for outcome in outcomes if not outcome.identical]
    table = Table("figure", "measured", "goal", title="Kill")
    table.add_row("runs killed and resumed", str(len(outcomes)), "")
    table.add_row("kills", str(sum(outcome.kills for outcome in outcomes)), "")
    table.add_row("points where the disk is touched", str(bench.points), "")
    table.add_row("LoRAs identical to the byte", str(len(outcomes) - len(bad)), str(len(outcomes)))
    table.add_row("most steps done again after a kill", str(max(outcome.lost_steps for outcome in outcomes)), f"<= {CHECKPOINT_EVERY}")
    table.add_row("seconds", f"{time.monotonic() - began:.0f}", "")
    console = Console()
    console.print(table)
    for outcome in bad[:10]:
        console.print(f"{outcome.how}: {outcome.reason}")
    figures = {
        "runs": len(outcomes),
        "identical": len(outcomes) - len(bad),
        "max_lost_steps": max(outcome.lost_steps for outcome in outcomes),
        "kills": sum(outcome.kills for outcome in outcomes),
        "points": bench.points,
    }
    print(json.dumps(figures))
    return 1 if bad else 0
