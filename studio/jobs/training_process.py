"""Training process as seen by the worker: a detached process that writes events, accepts stop and pause requests, and may die at any time."""

import contextlib
import functools
import logging
import math
from pathlib import Path

from studio import families
from studio.config.recipe import Recipe
from studio.config.runtime import EXECUTIONS
from studio.core import platform
from studio.core.errors import StudioError
from studio.devices import memory
from studio.families.facts import BaseFolder
from studio.jobs.queue import Job, Jobs
from studio.runs.image_requests import ImageRequests
from studio.runs.run import Run

log = logging.getLogger(__name__)

MAX_RESUMES = 3
"""Resumes without a click after one Start or Resume, if the user asked for that: a run that always ends the same way must not start endlessly."""
ENDINGS = ("finished", "stopped", "failed")
"""The last event of a process that did not end unexpectedly."""


class TrainingChild:
    """Copies the events of one training process to its job until the process ends. `tick()` never blocks."""

    def __init__(self, jobs: Jobs, job: Job, run: Run, offset: int):
        self.jobs, self.job, self.run = jobs, job, run
        self.pid, self.mark = job.pid, job.mark
        self.status: int | None = None
        self.is_child = False
        self.offset = offset
        self.last_event: dict = {}
        self.step = self.total = 0
        self.seconds_left: float | None = None
        self.stop_sent = False
        self.loaded = False
        """Whether it has begun to train, so that it can draw."""
        self.requests = ImageRequests(run)
        self.oom_kills = platform.oom_kills()

    @classmethod
    def start(cls, jobs: Jobs, job: Job, run: Run, log_file: Path) -> "TrainingChild":
        """Start a process for a new or interrupted run, and clear old stop and pause requests. If a process already trains this run, because its
        worker died before it recorded the pid, attach to it."""
        run.clear_stop()
        run.clear_pause()
        child = cls(jobs, job, run, run.events_file.stat().st_size if run.events_file.exists() else 0)
        child.total = run.config.training.max_train_steps
        if child.find_process():
            child.requests.cancel_all()
            return child
        child.requests.clear()
        command = platform.module_command("studio.training.loop", run.path, count=run.config.runtime.processes)
        process = platform.spawn(command, log_file, on_exit=child._on_exit)
        child.is_child = True
        child.pid, child.mark = process.pid, platform.start_mark(process.pid)
        jobs.set_process(job.id, process.pid)
        log.info("job %d trains in process %d", job.id, process.pid)
        jobs.progress(job.id, 0, child.total, message="Preparing to train")
        return child

    @classmethod
    def attach(cls, jobs: Jobs, job: Job, run: Run) -> "TrainingChild":
        """Attach to a process that an earlier worker started. A pause requested by that worker is cleared, or it would never end, and
        so are its images, which are asked for again."""
        run.clear_pause()
        child = cls(jobs, job, run, 0)
        child.requests.cancel_all()
        if not child.alive:
            child.find_process()
        return child

    def find_process(self) -> bool:
        """Find the process that holds the lock of this run and record it in the job; False if there is none."""
        pid = self.run.trainer_pid()
        if pid is None:
            return False
        self.pid, self.mark = pid, platform.start_mark(pid)
        self.jobs.set_process(self.job.id, pid)
        return True

    def _on_exit(self, status: int) -> None:
        self.status = status

    @property
    def alive(self) -> bool:
        return self.status is None and (self.is_child or platform.alive(self.pid, self.mark))

    @property
    def paused(self) -> bool:
        return self.last_event.get("kind") == "pausing"

    @property
    def crashed(self) -> bool:
        """Whether a process that has ended did so unexpectedly."""
        return self.last_event.get("kind") not in ENDINGS

    @property
    def device(self) -> str:
        """Where it trains; empty until it has chosen the device."""
        return self.run.config.runtime.device or ""

    def draws(self, recipe: Recipe) -> bool:
        """Whether it uses the recipe's base, and so draws its images."""
        model = self.run.config.model
        own, asked = _located(model.base_model, model.revision), _located(recipe.base_model, recipe.revision)
        if own is None or asked is None:
            # Not downloaded yet, perhaps by this training.
            return own is asked and (recipe.base_model, recipe.revision) == (model.base_model, model.revision)
        return own.is_same(asked)

    def drawing_waits(self, owner: str) -> str:
        """Message of an image that it has not begun to draw."""
        name = self._name(owner)
        if self.last_event.get("kind") == "full":
            return f"Waits for free disk space, like {name}."
        return f"Waits for the next step of {name}." if self.loaded else f"Waits until {name} has loaded the base."

    def conflict(self, kind: str, owner: str) -> str:
        """Why a captioner or another base has to wait for its end."""
        model = self.run.config.model
        base = _located(model.base_model, model.revision)
        title = f" ({base.title if base else model.base_model})" if owner == self.job.owner else ""
        reason = f"it uses another base{title}" if kind == "generate" else "the captioner does not fit on the GPU beside it"
        return f"Waits for {self._name(owner)} to end: {reason}."

    @functools.cached_property
    def title(self) -> str:
        return self.run.title

    def _name(self, owner: str) -> str:
        return f"the training of {self.title}" if owner == self.job.owner else "the training of another visitor"

    def tick(self) -> bool:
        """Process new events; False once training has ended and its job is closed."""
        if not self.stop_sent and self.jobs.cancel_requested(self.job.id):
            self.run.request_stop()
            self.stop_sent = True
        # Checked before the events are read: everything that a dead process wrote is in the file by then.
        alive = self.alive
        events, self.offset = self.run.events(self.offset)
        for event in events:
            self._handle(event)
        if not alive:
            self._close()
        return alive

    def _handle(self, event: dict) -> None:
        kind = event["kind"]
        if kind == "started":
            self.step, self.total, self.loaded = event["step"], event.get("total", self.total), True
        elif kind == "step":
            self.step, self.seconds_left = event["step"], event.get("seconds_left")
        self.jobs.progress(self.job.id, self.step, self.total, self.seconds_left, _progress_message(event))
        self.last_event = event

    def _close(self) -> None:
        kind, result = self.last_event.get("kind"), {"run": self.run.id, "step": self.last_event.get("step", self.step)}
        log.info("training of job %d has ended: last event %s, step %d, exit status %s", self.job.id, kind, self.step, self.status)
        where = f" at step {self.step}" if self.step else " before the first step"
        if kind == "finished":
            self.jobs.finish(self.job.id, {**result, "adapter": f"run:{self.run.id}", "seconds": self.last_event.get("seconds")})
        elif kind == "stopped":
            self.jobs.mark_cancelled(self.job.id, result)
        elif kind == "failed":
            self.jobs.fail(
                self.job.id,
                self.last_event.get("message") or "Training failed without an error message; press Resume to continue from the last checkpoint.",
            )
        elif self.status == 1:
            # It failed before it could write an event: while importing, or because another process holds the run, which then writes the events.
            self._fail(
                f"Training failed{where}; see logs/{self.run.id}.log in the studio's folder. Press Resume to continue from the last checkpoint."
            )
        elif self._ran_out_of_ram:
            device = self.run.config.runtime.device
            # On a GPU the settings decide about its memory, and RAM holds little besides the base.
            advice, changes = memory.out_of_memory_advice(self.run.config) if device != "cuda" else ("Close other programs.", [])
            self._fail(
                f"The computer ran out of RAM, so Linux ended the training{where}. {advice} Everything up to the last checkpoint is saved.", changes
            )
            self._resume()
        else:
            how = f" (killed by signal {-self.status})" if self.status and self.status < 0 else ""
            self.jobs.interrupt(self.job.id, f"Training stopped unexpectedly{where}{how}; press Resume to continue from the last checkpoint.", result)
            self._resume()
        self.run.clear_stop()
        self.run.clear_pause()

    @property
    def _ran_out_of_ram(self) -> bool:
        """Whether Linux ended the process for lack of RAM: SIGKILL, and its count of such ends has grown since the process started."""
        # The number, because Windows, where such ends are not counted, has no signal.SIGKILL.
        return self.status in (-9, None) and platform.oom_kills() > self.oom_kills

    def _fail(self, message: str, retries: list[dict] | None = None) -> None:
        """Write the "failed" event that the process could not write, and fail its job."""
        with contextlib.suppress(StudioError, OSError), self.run.lock():
            self.run.append({"kind": "failed", "step": self.step, "message": message, "retries": retries or []})
        self.jobs.fail(self.job.id, message)

    def _resume(self) -> None:
        """Queue the run again after an unexpected end, if the user asked for that."""
        resumes = self.job.payload.get("resumes", 0) + 1
        if not self.run.marks.resumes or self.stop_sent or self.run.stop_requested or resumes > MAX_RESUMES:
            return
        log.info("run resumes automatically, number %d", resumes)
        with contextlib.suppress(StudioError):
            self.jobs.submit(self.job.owner, "train", {"run": self.run.id, "resumes": resumes}, key=self.run.job_key)


def _progress_message(event: dict) -> str:
    """What the run is doing between steps; empty while it trains."""
    kind = event["kind"]
    if kind == "encoding":
        return f"Encoding the images, {event['done']} of {event['total']}"
    if kind == "trial":
        minutes = math.ceil(event["seconds"] / 60)
        ways = ", then ".join(EXECUTIONS[name] for name in event["executions"])
        return f"Trying how to run a step fastest: {ways}; at most {minutes} minute{'' if minutes == 1 else 's'}"
    if kind == "prior":
        return f"Generating regularisation images, {event['done']} of {event['total']}"
    return {"pausing": "Paused to generate images", "full": "The disk is full: waiting for free space"}.get(kind, "")


def _located(base_model: str, revision: str | None) -> BaseFolder | None:
    try:
        return families.locate_base(base_model, revision)
    except StudioError:
        return None
