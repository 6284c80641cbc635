"""What every command shares: the home folder, the two streams, and following a job until it ends; Ctrl-C asks it to stop."""

import contextlib
import math
import signal
import threading
import time
from collections.abc import Iterator
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
"""What a shell expects of a command that Ctrl-C ended: in `train && publish` nothing half-learnt goes on."""

console = Console(markup=False, soft_wrap=True)
stderr = Console(stderr=True, markup=False, soft_wrap=True)
"""For progress and refusals: what a script reads from the other stream is results alone."""
HomeOption = Annotated[Path | None, typer.Option("--home", help="The studio's folder; default: LORA_STUDIO_HOME or your data folder.")]


class Stopped(typer.Exit):
    """The command ends because its job was stopped: `here`, by Ctrl-C, or from the page or another terminal."""

    def __init__(self, here: bool):
        super().__init__(STOPPED)
        self.here = here


def open_home(home: Path | None) -> tuple[Home, Workspace, Jobs]:
    place = Home(home)
    return place, place.workspace("local"), Jobs(place.database)


def follow(home: Home, jobs: Jobs, job: Job, secret: bytes | None = None, resume_command: str = "") -> Job:
    """Show a job's progress until it ends; Ctrl-C asks it to stop, and stopping a training saves it first.

    `go_on` is the command that goes on with what was stopped.
    """
    columns = (TextColumn("{task.description}"), BarColumn(), TextColumn("{task.completed:.0f}/{task.total:.0f}"), TimeRemainingColumn())
    looked = -math.inf
    with catch_ctrl_c() as pressed, Progress(*columns, console=stderr, transient=True, disable=not stderr.is_terminal) as progress:
        bar = progress.add_task(job.kind, total=1)
        while job.unfinished:
            if pressed.is_set() and not job.cancel_requested:
                jobs.cancel(job.id)
            if time.monotonic() - looked > worker.POLL_SECONDS:
                looked = time.monotonic()
                if job.kind not in DEVICE_KINDS:
                    # Again after a crash too: nobody else has the secret.
                    jobs.start(job, secret)
                worker.supervise(home, jobs)
            time.sleep(0.1)
            job = jobs.get(job.id)
            words = ("saving, then stopping" if job.kind == "train" else "stopping") if pressed.is_set() else job.message or job.kind
            progress.update(bar, completed=job.done or 0, total=max(job.total or 0, 1), description=words)
    if job.state == "cancelled":
        step = job.result.get("step")
        where = f"Stopped at step {step} and saved" if step else "Stopped before the first step"
        console.print(f"{where}; go on with: {resume_command}" if resume_command else "Stopped.", highlight=False)
        raise Stopped(here=pressed.is_set())
    if job.state != "done":
        hint = f" The command: {resume_command}" if resume_command and job.state == "interrupted" else ""
        raise StudioError((job.error or f"The {job.kind} job ended as {job.state}.") + hint)
    return job


@contextlib.contextmanager
def catch_ctrl_c() -> Iterator[threading.Event]:
    """The first Ctrl-C sets the event, a second one ends the command as usual. As an exception the first could be lost: raised while Python
    calls back from C, it is printed and forgotten."""
    pressed = threading.Event()

    def note(number, frame) -> None:
        if pressed.is_set():
            signal.default_int_handler(number, frame)
        pressed.set()

    before = signal.signal(signal.SIGINT, note)
    try:
        yield pressed
    finally:
        signal.signal(signal.SIGINT, before)


def table(columns: tuple[str, ...], rows: list[tuple[str, ...]]) -> None:
    """Plain columns: a table as wide as the terminal would cut ids, which people copy from here."""
    widths = [max(map(len, column)) for column in zip(columns, *rows)]
    for line in (columns, *rows):
        console.print("  ".join(cell.ljust(width) for cell, width in zip(line, widths)).rstrip(), highlight=False)


def check_target(path: Path) -> None:
    """Before the work, not after it: whether there is a place to save its result."""
    folder = path.absolute().parent
    if not folder.is_dir():
        raise StudioError(f"There is no folder {str(folder)!r} to save {path.name!r} in; make it first, or choose another.")
