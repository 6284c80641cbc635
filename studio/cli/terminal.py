"""Shared by all commands: the home folder, the two output streams, and following a job until it ends, with Ctrl-C to stop it."""

import contextlib
import math
import signal
import threading
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn

from studio.core.errors import StudioError
from studio.core.workspace import Home, Workspace
from studio.jobs import worker
from studio.jobs.queue import DEVICE_KINDS, Job, Jobs

STOPPED = 130
"""Exit status of a command ended by Ctrl-C, so that `train && publish` does not publish a partly trained LoRA."""

console = Console(markup=False, soft_wrap=True)
stderr = Console(stderr=True, markup=False, soft_wrap=True)
"""For progress and errors; stdout carries results only, for scripts."""
HomeOption = Annotated[Path | None, typer.Option("--home", help="The studio's home folder; default: LORA_STUDIO_HOME or your data folder.")]


class Stopped(typer.Exit):
    """Exit because the job was stopped: by Ctrl-C in this terminal if `here`, otherwise from the page or another terminal."""

    def __init__(self, here: bool):
        super().__init__(STOPPED)
        self.here = here


def open_home(home: Path | None) -> tuple[Home, Workspace, Jobs]:
    place = Home(home)
    return place, place.workspace("local"), Jobs(place.database)


def follow(home: Home, jobs: Jobs, job: Job, secret: bytes | None = None, resume_command: str = "") -> Job:
    """Show a job's progress until it ends; Ctrl-C stops it, and a training job saves a checkpoint first.

    `resume_command` is printed after a job was stopped.
    """
    columns = (TextColumn("{task.description}"), BarColumn(), TextColumn("{task.completed:.0f}/{task.total:.0f}"), TimeRemainingColumn())
    last_poll = -math.inf
    with catch_ctrl_c() as pressed, Progress(*columns, console=stderr, transient=True, disable=not stderr.is_terminal) as progress:
        bar = progress.add_task(job.kind, total=1)
        while job.unfinished:
            if pressed.is_set() and not job.cancel_requested:
                jobs.cancel(job.id)
            if time.monotonic() - last_poll > worker.POLL_SECONDS:
                last_poll = time.monotonic()
                if job.kind not in DEVICE_KINDS:
                    # Also after a crash: only this process has the secret.
                    jobs.start(job, secret)
                worker.supervise(home, jobs)
            time.sleep(0.1)
            job = jobs.get(job.id)
            description = ("saving, then stopping" if job.kind == "train" else "stopping") if pressed.is_set() else job.message or job.kind
            progress.update(bar, completed=job.done or 0, total=max(job.total or 0, 1), description=description)
    if job.state == "cancelled":
        step = job.result.get("step")
        where = f"Stopped at step {step}, checkpoint saved" if step else "Stopped before the first step"
        console.print(f"{where}; continue with: {resume_command}" if resume_command else "Stopped.", highlight=False)
        raise Stopped(here=pressed.is_set())
    if job.state != "done":
        hint = f" Continue with: {resume_command}" if resume_command and job.state == "interrupted" else ""
        raise StudioError((job.error or f"The {job.kind} job ended with state {job.state}.") + hint)
    return job


@contextlib.contextmanager
def catch_ctrl_c() -> Iterator[threading.Event]:
    """The first Ctrl-C sets the event, a second one ends the command as usual. As an exception the first one could be lost: raised in a callback
    from C, it is only printed."""
    pressed = threading.Event()

    def note(number, frame) -> None:
        if pressed.is_set():
            signal.default_int_handler(number, frame)
        pressed.set()

    previous = signal.signal(signal.SIGINT, note)
    try:
        yield pressed
    finally:
        signal.signal(signal.SIGINT, previous)


def table(columns: tuple[str, ...], rows: Sequence[tuple[str, ...]]) -> None:
    """Print plain columns; a table fitted to the terminal's width would truncate ids, which users copy."""
    widths = [max(map(len, column)) for column in zip(columns, *rows)]
    for line in (columns, *rows):
        console.print("  ".join(cell.ljust(width) for cell, width in zip(line, widths)).rstrip(), highlight=False)


def check_target(path: Path) -> None:
    """Check before the work that the output folder exists."""
    folder = path.absolute().parent
    if not folder.is_dir():
        raise StudioError(f"There is no folder {str(folder)!r} to save {path.name!r} in; create it, or choose another.")
