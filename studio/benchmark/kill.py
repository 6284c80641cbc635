"""Kill training runs at any point, resume them, compare the bytes of the LoRAs: `python -m studio.benchmark kill --runs N`.

One process imports torch and forks a child per attempt. Children are killed by SIGKILL at every disk operation (before,
during and after each write, rename, removal and event) and at random times; every run is then resumed to its end and its
LoRAs are compared with those of an uninterrupted run.
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
from typing import cast

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
    """Counts the points that a run passes, and kills the process at one of them."""

    def __init__(self, dies_at: int | None):
        self.passed = 0
        self.dies_at = dies_at

    def tick(self) -> None:
        self.passed += 1
        if self.passed == self.dies_at:
            os.kill(os.getpid(), signal.SIGKILL)


class DeadlyDisk(Disk):
    """A disk that may kill the process before, during and after each operation."""

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
    """A run whose event log may be truncated in the middle of a line."""

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
    """Result of one run."""

    how: str
    kills: int
    identical: bool
    lost_steps: int
    reason: str = ""


class Bench:
    """A tiny model, a template run, and the LoRAs of an uninterrupted run."""

    def __init__(self, folder: Path, *overrides: str):
        from studio import config
        from studio.benchmark.tiny import TinyDataset, save_tiny_model
        from studio.core.workspace import Workspace
        from studio.families import get, resolve_base

        self.folder = folder
        model = save_tiny_model(folder / "model")
        settings = config.build({**SETTINGS, "model": {"base_model": str(model)}}, *overrides)
        self.template = create_run(Workspace(folder / "home", "bench"), settings, TinyDataset(folder / "pictures"))
        # Loading once triggers the lazy imports of the libraries, which every child then inherits.
        get("stable-diffusion").load(resolve_base(str(model)), torch.float32)
        self.fork = multiprocessing.get_context("fork")
        uninterrupted = self.copy("uninterrupted")
        points = self.fork.Value("i", 0)
        began = time.monotonic()
        child = self.start(uninterrupted, None, points)
        child.join()
        self.seconds = time.monotonic() - began
        if child.exitcode != 0:
            raise SystemExit(f"The uninterrupted run failed:\n{(uninterrupted.path / 'log').read_text()}")
        self.points = points.value
        self.expected = hashes(uninterrupted)

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
        """One to three kills at random times, most of them after the imports and before the end."""
        rng = random.Random(number)
        run, kills = self.copy(f"random-{number}"), 0
        for _ in range(rng.randint(1, 3)):
            child = self.start(run, None)
            child.join(rng.uniform(0, self.seconds))
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
            reason = "different bytes"
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
    """step -> sha256 of every saved LoRA."""
    return {step: hashlib.sha256(path.read_bytes()).hexdigest() for step, path in run.adapters()}


def lost_steps(run: Run) -> int:
    """Largest number of steps repeated after one kill."""
    lost, reached = 0, 0
    for event in run.events()[0]:
        if event["kind"] == "started":
            lost, reached = max(lost, reached - event["step"]), event["step"]
        elif event["kind"] == "step":
            reached = event["step"]
    return lost


def run_kills(runs: int, folder: Path, quiet: bool = False) -> tuple[Bench, list[Outcome]]:
    """Every point once if there are enough runs, else evenly spaced points for half of the runs; the rest at random times."""
    import studio.training.loop  # noqa: F401 - imported before the first fork, so that no child pays for it

    # tqdm's lock is shared with forked processes: a process killed while holding it would block all others.
    tqdm.set_lock(threading.RLock())
    bench = Bench(folder)
    chosen = min(bench.points, runs if runs >= bench.points else runs // 2)
    points = [1 + round(i * (bench.points - 1) / max(1, chosen - 1)) for i in range(chosen)]
    tasks = [(bench.kill_at_point, point) for point in points] + [(bench.kill_at_random, number) for number in range(runs - chosen)]
    return bench, list(
        track(run_in_parallel(bench.fork, tasks), total=len(tasks), description="killing", disable=quiet, console=Console(stderr=True))
    )


def run_in_parallel(fork, tasks: list[tuple]) -> Iterator[Outcome]:
    """Run the tasks in one process per core, and yield their outcomes as they finish."""
    pipes: list[multiprocessing.connection.Connection] = []
    count = os.cpu_count() or 1
    for worker in range(count):
        receiver, sender = fork.Pipe(duplex=False)
        process = fork.Process(target=run_tasks, args=(tasks[worker::count], sender))
        process.start()
        sender.close()
        pipes.append(receiver)
    while pipes:
        for ready in cast("list[multiprocessing.connection.Connection]", multiprocessing.connection.wait(pipes)):
            try:
                yield ready.recv()
            except EOFError:
                pipes.remove(ready)


def run_tasks(tasks: list[tuple], results) -> None:
    for kill, number in tasks:
        results.send(kill(number))


def main(argv: list[str]) -> int:
    parser = argparse.ArgumentParser(prog="python -m studio.benchmark kill", description=__doc__.splitlines()[0])
    parser.add_argument("--runs", type=int, default=300, help="number of training runs that are killed and resumed (default 300)")
    options = parser.parse_args(argv)
    if sys.platform == "win32":
        print("This benchmark needs fork, which Windows does not have; run it on Linux or macOS.")
        return 2
    # No thread may exist before a fork: a pool's threads do not survive it, and the child would wait for them endlessly.
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
    table.add_row("disk operations", str(bench.points), "")
    table.add_row("bit-identical LoRAs", str(len(outcomes) - len(bad)), str(len(outcomes)))
    table.add_row("most steps repeated after a kill", str(max(outcome.lost_steps for outcome in outcomes)), f"<= {CHECKPOINT_EVERY}")
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
