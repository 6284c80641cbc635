"""State of a training run: derived from its events and its newest job."""

import functools
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from studio.jobs.queue import Job
from studio.runs.run import Run
from studio.ui.studio import Studio

WORDS = {
    "created": "Not started",
    "waiting": "Waiting in the queue",
    "running": "Training",
    "paused": "Paused to generate an image",
    "full": "Waiting for disk space",
    "stopped": "Stopped, everything saved",
    "finished": "Finished",
    "failed": "Failed",
    "interrupted": "Interrupted, can be resumed",
}
"""State -> what the page calls it."""
BUSY = ("waiting", "running", "paused", "full")

Event = dict[str, Any]


@dataclass(frozen=True)
class Condition:
    """State of a run, from its events and its newest job."""

    state: str
    job: Job | None
    curve: tuple[Event, ...]
    total: int
    message: str
    notes: tuple[str, ...]
    validation: tuple[Event, ...] = ()
    retries: tuple[Event, ...] = ()
    uninterrupted: bool = True
    preflight: Event = field(default_factory=dict)
    execution: str = ""

    @property
    def step(self) -> int:
        return self.curve[-1]["step"] if self.curve else 0

    @property
    def can_resume(self) -> bool:
        return self.state in ("created", "stopped", "interrupted", "failed")


@dataclass(frozen=True)
class EventSummary:
    """What a run's event file contains, for one size of that file."""

    state: str
    curve: tuple[Event, ...]
    notes: tuple[str, ...] = ()
    failure: str = ""
    validation: tuple[Event, ...] = ()
    retries: tuple[Event, ...] = ()
    uninterrupted: bool = True
    """Whether one process trained all steps, so that its job's time is the run's."""
    preflight: Event = field(default_factory=dict)
    """Memory and disk use of the first steps; empty before them."""
    execution: str = ""


@functools.lru_cache(maxsize=256)
def _summarize(path: Path, size: int, modified_ns: int) -> EventSummary:
    """Cached by size and time of the file: the page asks every second, and finished runs do not change."""
    run = Run(path)
    events = run.events()[0]
    notes = dict.fromkeys(event["message"] for event in events if event["kind"] == "note")
    if skipped := len(run.curve("skipped")):
        notes[f"Steps skipped by loss scaling: {skipped:,}. Their gradients exceeded the range of float16; a few are normal."] = None
    failures = [event.get("message") for event in events if event["kind"] == "failed"]
    return EventSummary(
        run.state,
        tuple(run.curve()),
        tuple(notes),
        (failures[-1] or "") if failures else "",
        tuple(run.curve("validation")),
        tuple(run.retries()),
        sum(1 for event in events if event["kind"] == "started") < 2,
        next((event for event in reversed(events) if event["kind"] == "preflight"), {}),
        next((event.get("execution", "") for event in reversed(events) if event["kind"] == "started"), ""),
    )


def newest_jobs(studio: Studio, owner: str) -> dict[str, Job]:
    """Run id -> its newest training job; a running one takes precedence over one that waits behind it."""
    newest: dict[str, Job] = {}
    for job in studio.jobs.list(owner, kinds=("train",), limit=500):
        known = newest.setdefault(job.payload["run"], job)
        if (known.state, job.state) == ("waiting", "running"):
            newest[job.payload["run"]] = job
    return newest


def condition(run: Run, job: Job | None) -> Condition:
    stat = run.events_file.stat() if run.events_file.exists() else None
    events = _summarize(run.path, stat.st_size, stat.st_mtime_ns) if stat else EventSummary("created", ())
    state = _state(events, job)
    message = events.failure if events.state == state == "failed" else ""
    if not message and state in ("failed", "interrupted"):
        message = job.error if job else ""
    return Condition(
        state,
        job,
        events.curve,
        run.config.training.max_train_steps,
        message,
        events.notes,
        events.validation,
        events.retries if state == "failed" else (),
        events.uninterrupted,
        events.preflight,
        events.execution,
    )


def _state(events: EventSummary, job: Job | None) -> str:
    if job and job.unfinished:
        if job.state == "waiting":
            return "waiting"
        return events.state if events.state in ("paused", "full") else "running"
    if events.state in ("finished", "stopped", "failed"):
        return events.state
    if job and job.state == "failed":
        return "failed"
    if events.state == "created" and (job is None or job.state == "cancelled"):
        return "created"
    return "interrupted"


def step_label(step: int) -> str:
    """Heading of a column of samples."""
    return f"step {step:,}" if step else "base"
