"""Run: one directory with everything needed to train the same LoRA again. No torch.

    config.json  asked.json  marks.json  dataset/{dataset.json,pictures/}  start.safetensors  events.jsonl  samples/<step>/  checkpoints/
    adapters/step-<step>.safetensors

config.json holds the resolved config, asked.json the requested one, before automatic choices; marks.json holds what the user can change at any
time (marks.py). Only the holder of the lock, the training
process, writes events.jsonl. `stop` and `pause` are empty files that request these actions; `draw` holds requested images (image_requests.py).
"""

import functools
import json
import re
import time
from pathlib import Path
from typing import get_args

from studio import config as configs
from studio.config import TrainConfig, fields, schedules
from studio.config.extension import Extension, Schedule, warmup_steps
from studio.core import damage
from studio.core.errors import StudioError
from studio.core.locks import FileLock
from studio.core.workspace import FOOTPRINTS, OWNERS, RUNS, TRIALS, Workspace, write_atomically
from studio.datasets.importing.images import clean_text
from studio.runs import marks
from studio.runs.marks import Marks

LONGEST_NAME = 120
ADAPTER_NAME = re.compile(r"step-(\d{6})\.safetensors")
STATE_AFTER = {
    "started": "running",
    "resumed": "running",
    "pausing": "paused",
    "full": "full",
    "stopped": "stopped",
    "finished": "finished",
    "failed": "failed",
    "extended": "stopped",
}

SNAPSHOT = {"title": str, "created": damage.NUMBER, "sha256": str, "pictures": list}
EVENT = {"kind": str}
MAYBE_NUMBER = (*damage.NUMBER, damage.ABSENT)
EVENTS: dict[str, damage.Shape] = {
    "started": {"step": int},
    "step": {"step": int, "loss": damage.NUMBER, "lr": MAYBE_NUMBER, "effective_lr": MAYBE_NUMBER, "seconds_per_step": MAYBE_NUMBER},
    "validation": {"step": int, "loss": damage.NUMBER},
    "skipped": {"step": int},
    "note": {"message": str},
    "preflight": {"peak_mb": damage.NUMBER, "disk_mb": damage.NUMBER},
}
"""What events of a kind must contain to be read."""
EVENTS_CHECKED = 65536
"""Bytes at the beginning of events.jsonl among which an event must be readable."""


class Run:
    def __init__(self, path: Path):
        self.path = path
        self.id = path.name
        self.dataset_dir = path / "dataset"
        self.samples_dir = path / "samples"
        self.checkpoints_dir = path / "checkpoints"
        self.adapters_dir = path / "adapters"
        self.events_file = path / "events.jsonl"
        self.start_file = path / "start.safetensors"
        self.prior_dir = path / "prior"
        # Runs of a workspace share encodings, since the same image and base give the same latents; a run outside a workspace has its own.
        self.cache_dir = (path.parent.parent if path.parent.name == RUNS else path) / "encodings"
        # The GPU is the same for all owners of an installation.
        in_home = path.parent.name == RUNS and path.parent.parent.parent.name == OWNERS
        shared = path.parents[3] if in_home else path
        self.trials_dir, self.footprints_dir = shared / TRIALS, shared / FOOTPRINTS

    @classmethod
    def open(cls, workspace: Workspace, run_id: str) -> "Run":
        run = cls(workspace.run_path(run_id))
        if not (run.path / "config.json").exists():
            raise StudioError(f"There is no run {run_id!r}; choose one from the list.")
        return run

    @classmethod
    def all(cls, workspace: Workspace) -> list["Run"]:
        """Every run of a workspace that can be read, newest first; damage.py lists the others."""
        return sorted((run for run in cls.folders(workspace) if not run.damage), key=lambda run: run.snapshot["created"], reverse=True)

    @classmethod
    def folders(cls, workspace: Workspace) -> list["Run"]:
        """Every run, readable or not."""
        return [cls(path) for path in sorted(workspace.runs.iterdir()) if (path / "config.json").exists()]

    @property
    def damage(self) -> str:
        """Why this run cannot be read; empty if it can. Read again only when one of its files has changed."""
        return _damage(self.path, damage.stamps(self.path / "config.json", self.dataset_dir / "dataset.json")) or self._damaged_events()

    def _damaged_events(self) -> str:
        """Not kept, because events are added all the time; the first one that can be read is the end of the search."""
        try:
            with open(self.events_file, "rb") as file:
                lines = file.read(EVENTS_CHECKED).splitlines()
        except FileNotFoundError:
            return ""
        except OSError as error:
            return f"{damage.readable_name(self.path)}/{self.events_file.name} cannot be read ({error.strerror})."
        if not lines or any(_event(line) for line in lines):
            return ""
        return f"{damage.readable_name(self.path)}/{self.events_file.name} cannot be read: none of its lines is an event of a training."

    @property
    def job_key(self) -> str:
        """Key of the queue: at most one unfinished training job of this run."""
        return f"train-{self.id}"

    @property
    def config(self) -> TrainConfig:
        return configs.load(self.path / "config.json")

    def write_config(self, config: TrainConfig) -> None:
        write_atomically(self.path / "config.json", configs.dump(config))

    @property
    def requested(self) -> TrainConfig:
        """Settings for a similar run: with the same revision of the base, but without this run's automatic choices."""
        file = self.path / "asked.json"
        if not file.exists():
            return self.config
        current = self.config
        return fields.replace(
            configs.load(file), {"model.revision": current.model.revision, "training.max_train_steps": current.training.max_train_steps}
        )

    def extend(self, more: int, schedule: str = "") -> Extension:
        """Add `more` steps to a finished run; it can then be resumed from its last checkpoint.

        `schedule`: "keep" goes on at the last learning rate, "new" repeats the run's schedule after a warm-up. Empty keeps the rate unless it has
        fallen so low that nothing would be learned.
        """
        with self.lock():
            if self.state != "finished":
                raise StudioError(f"{self.title} is {self.state}; only a finished run can be extended. Resume it instead.")
            if not any(self.checkpoints_dir.glob("step-*/manifest.json")):
                raise StudioError(f"{self.title} has no checkpoint to resume from; start a new run from its LoRA instead.")
            config = self.config
            training, before = config.training, config.training.max_train_steps
            total = before + _checked_steps(more)
            chosen = _checked_schedule(schedule or schedules.suggested_extension(training))
            warmup = warmup_steps(training.lr_warmup_steps, more) if chosen == "new" else 0
            added = Extension(from_step=before, schedule=chosen, lr_warmup_steps=warmup)
            extensions = [each.model_dump() for each in (*training.extensions, added)]
            self.write_config(fields.replace(config, {"training.max_train_steps": total, "training.extensions": extensions}))
            rate = {"lr": schedules.last_rate(training)} if chosen == "keep" else {"lr_warmup_steps": warmup}
            self.append({"kind": "extended", "from": before, "to": total, "schedule": chosen, **rate})
            return added

    @property
    def snapshot(self) -> dict:
        """The dataset when the run was created: title, sha256, consent, images with captions."""
        return damage.read_object(self.dataset_dir / "dataset.json", SNAPSHOT)

    @property
    def title(self) -> str:
        """Name on the page and in messages, which the user can change."""
        return self.marks.name or self.original_title

    @property
    def original_title(self) -> str:
        """Title at creation, which is part of the adapter file: a new name does not change the file's bytes."""
        return self.snapshot["title"]

    @property
    def short_title(self) -> str:
        """The title without the settings and the date of an automatic name, for a repository or a model card."""
        return self.original_title if self.marks.automatic else self.title

    @property
    def marks(self) -> Marks:
        return marks.read(self.path)

    def rename(self, name: str) -> None:
        """Give the run another name; StudioError if it is empty."""
        name = clean_text(name, LONGEST_NAME)
        if not name:
            raise StudioError(f"A run needs a name of 1 to {LONGEST_NAME} characters; {self.title!r} keeps its name.")
        if name != self.title:
            marks.change(self.path, name=name, automatic=False)

    def star(self, starred: bool) -> None:
        marks.change(self.path, starred=starred)

    def star_step(self, step: int, starred: bool) -> None:
        """Star a checkpoint, or remove its star."""
        others = [each for each in self.marks.starred_steps if each != step]
        marks.change(self.path, starred_steps=tuple(sorted([*others, step] if starred else others)))

    def resume_automatically(self, resumes: bool) -> None:
        """Whether training resumes without a click after it ended unexpectedly."""
        marks.change(self.path, resumes=resumes)

    def append(self, event: dict) -> None:
        """Append one event, in a single write call per line, so that readers rarely see a partial line and skip it."""
        line = json.dumps({"time": time.time(), **event}, sort_keys=True) + "\n"
        with open(self.events_file, "ab") as file:
            file.write(line.encode())

    def events(self, offset: int = 0) -> tuple[list[dict], int]:
        """Events from a byte offset on, and the offset for the next call. An incomplete last line is left for the next call."""
        if not self.events_file.exists():
            return [], 0
        with open(self.events_file, "rb") as file:
            file.seek(offset)
            data = file.read()
        complete = data[: data.rfind(b"\n") + 1]
        found = []
        for line in complete.splitlines():
            # A kill can truncate a line, to which the resumed process then appends. Only that line is lost.
            if event := _event(line):
                found.append(event)
        return found, offset + len(complete)

    @property
    def state(self) -> str:
        """created, running, paused, full (waiting for disk space), stopped, finished or failed, from the last event."""
        state = "created"
        for event in self.events()[0]:
            state = STATE_AFTER.get(event["kind"], state)
        return state

    def curve(self, kind: str = "step") -> list[dict]:
        """Events of one kind by step; after a resume, repeated steps replace those recorded before the crash.

        step: {step, loss, lr, seconds_per_step, ...}; validation: {step, loss} on the validation images; skipped: {step} of steps that loss
        scaling skipped.
        """
        steps: dict[int, dict] = {}
        for event in self.events()[0]:
            if event["kind"] == "started":
                steps = {step: e for step, e in steps.items() if step <= event["step"]}
            elif event["kind"] == kind:
                steps[event["step"]] = event
        return [steps[step] for step in sorted(steps)]

    def retries(self) -> list[dict]:
        """Changes that a failed training process suggests: [{"title": text, "set": {"section.field": value}}]."""
        ends = [event for event in self.events()[0] if event["kind"] in STATE_AFTER]
        return ends[-1].get("retries") or [] if ends and ends[-1]["kind"] == "failed" else []

    def adapter_at(self, step: int) -> Path:
        return self.adapters_dir / f"step-{step:06d}.safetensors"

    def adapters(self) -> list[tuple[int, Path]]:
        """(step, file) of every saved adapter, oldest first."""
        found = []
        if self.adapters_dir.exists():
            for path in self.adapters_dir.iterdir():
                if match := ADAPTER_NAME.fullmatch(path.name):
                    found.append((int(match[1]), path))
        return sorted(found)

    def latest_adapter(self) -> Path | None:
        saved = self.adapters()
        return saved[-1][1] if saved else None

    def samples(self) -> dict[int, list[Path]]:
        """step -> one image per sample prompt; step 0 is the base alone."""
        if not self.samples_dir.exists():
            return {}
        columns = {int(folder.name): sorted(folder.glob("*.png")) for folder in self.samples_dir.iterdir() if folder.name.isdigit()}
        return {step: columns[step] for step in sorted(columns) if columns[step]}

    def request_stop(self) -> None:
        (self.path / "stop").touch()

    @property
    def stop_requested(self) -> bool:
        return (self.path / "stop").exists()

    def clear_stop(self) -> None:
        (self.path / "stop").unlink(missing_ok=True)

    def request_pause(self) -> None:
        (self.path / "pause").touch()

    @property
    def pause_requested(self) -> bool:
        return (self.path / "pause").exists()

    def clear_pause(self) -> None:
        (self.path / "pause").unlink(missing_ok=True)

    def lock(self) -> FileLock:
        """Lock held by the training process while it lives; a second process gets a StudioError that names the first."""
        return FileLock(self.path / "lock", f"The run {self.title!r}")

    def trainer_pid(self) -> int | None:
        """Pid of the process that trains this run, whether or not a job has recorded it."""
        return self.lock().holder()


def _event(line: bytes) -> dict | None:
    """The event in a line; None if it cannot be read."""
    try:
        event = json.loads(line)
    except (ValueError, RecursionError):
        return None
    complete = not damage.problem_of(event, EVENT) and not damage.problem_of(event, EVENTS.get(event["kind"], {}))
    return event if complete else None


@functools.lru_cache(maxsize=1024)
def _damage(path: Path, stamps: tuple) -> str:
    run = Run(path)
    try:
        run.snapshot, run.config  # noqa: B018 - reading is the check
    except StudioError as error:
        return str(error)
    return ""


def _checked_steps(more: int) -> int:
    if type(more) is not int or more < 1:
        raise StudioError(f"{more!r} is not a valid number of steps to add; give an integer from 1.")
    return more


def _checked_schedule(schedule: str) -> Schedule:
    for choice in get_args(Schedule):
        if choice == schedule:
            return choice
    raise StudioError(f"{schedule!r} is not a way to extend a run; choose keep (the last learning rate) or new (a new schedule with warm-up).")
