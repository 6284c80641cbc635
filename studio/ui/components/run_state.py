"""What is true of a training run right now: its state in words, from its own events and its newest job."""

import functools
from dataclasses import dataclass, field
from pathlib import Path

from studio.jobs.queue import Job
from studio.runs.run import Run
from studio.ui.studio import Studio

WORDS = {
    "created": "Not started",
    "waiting": "Waiting for its turn",
    "running": "Learning",
    "paused": "Paused for a moment to draw",
    "full": "Waiting for room on the disk",
    "stopped": "Stopped, everything saved",
    "finished": "Finished",
    "failed": "Failed",
    "interrupted": "Interrupted, nothing lost",
}
BUSY = ("waiting", "running", "paused", "full")


@dataclass(frozen=True)
class Condition:
    """What is true of a run right now, from its own events and its newest job."""

    state: str
    job: Job | None
    curve: tuple[dict, ...]
    total: int
    message: str
    notes: tuple[str, ...]
    held_back: tuple[dict, ...] = ()
    retries: tuple[dict, ...] = ()
    in_one_go: bool = True
    preflight: dict = field(default_factory=dict)
    execution: str = ""

    @property
    def step(self) -> int:
        return self.curve[-1]["step"] if self.curve else 0

    @property
    def can_resume(self) -> bool:
        return self.state in ("created", "stopped", "interrupted", "failed")


@dataclass(frozen=True)
class Told:
    """What a run's events say, as of one size of their file."""

    state: str
    curve: tuple[dict, ...]
    notes: tuple[str, ...] = ()
    failure: str = ""
    held_back: tuple[dict, ...] = ()
    retries: tuple[dict, ...] = ()
    in_one_go: bool = True
    """Whether one process did it all, so that its job's time is the run's."""
    preflight: dict = field(default_factory=dict)
    """What the first steps took; empty before them."""
    execution: str = ""


@functools.lru_cache(maxsize=256)
def _told(path: Path, size: int, modified_ns: int) -> Told:
    """Runs that are over are read once; the page asks every second."""
    run = Run(path)
    events = run.events()[0]
    notes = dict.fromkeys(event["message"] for event in events if event["kind"] == "note")
    failures = [event["message"] for event in events if event["kind"] == "failed"]
    return Told(
        run.state,
        tuple(run.curve()),
        tuple(notes),
        failures[-1] if failures else "",
        tuple(run.curve("validation")),
        tuple(run.retries()),
        sum(1 for event in events if event["kind"] == "started") < 2,
        next((event for event in reversed(events) if event["kind"] == "preflight"), {}),
        next((event.get("execution", "") for event in reversed(events) if event["kind"] == "started"), ""),
    )


def newest_jobs(studio: Studio, owner: str) -> dict[str, Job]:
    """run id -> its newest training job; one that runs counts before one that waits behind it."""
    newest = {}
    for job in studio.jobs.list(owner, kinds=("train",), limit=500):
        known = newest.setdefault(job.payload["run"], job)
        if (known.state, job.state) == ("waiting", "running"):
            newest[job.payload["run"]] = job
    return newest


def condition(run: Run, job: Job | None) -> Condition:
    stat = run.events_file.stat() if run.events_file.exists() else None
    told = _told(run.path, stat.st_size, stat.st_mtime_ns) if stat else Told("created", ())
    if job and job.unfinished:
        state = "waiting" if job.state == "waiting" else told.state if told.state in ("paused", "full") else "running"
    elif told.state in ("finished", "stopped", "failed"):
        state = told.state
    elif job and job.state == "failed":
        state = "failed"
    elif told.state == "created" and (job is None or job.state == "cancelled"):
        state = "created"
    else:
        state = "interrupted"
    message = told.failure if told.state == state == "failed" else ""
    if not message and state in ("failed", "interrupted"):
        message = job.error if job else ""
    retries = told.retries if state == "failed" else ()
    total = run.config.training.max_train_steps
    return Condition(state, job, told.curve, total, message, told.notes, told.held_back, retries, told.in_one_go, told.preflight, told.execution)


def column(step: int) -> str:
    """A step as the head of a column of samples."""
    return f"step {step:,}" if step else "base"
