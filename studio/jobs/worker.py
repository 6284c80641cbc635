"""Worker process, `python -m studio.jobs.worker HOME`: captions, generates images and follows training processes; one per installation.

The web process only calls `ensure` and `start_supervisor` here; heavy imports happen in the worker itself.
"""

import functools
import json
import logging
import os
import sqlite3
import sys
import threading
import time
from pathlib import Path

from studio import families
from studio.config.recipe import Recipe
from studio.core import damage, platform
from studio.core.errors import StudioError
from studio.core.locks import FileLock
from studio.core.logging import configure, log_packages
from studio.core.workspace import Home, write_atomically
from studio.generation.images import generate_images
from studio.jobs import leftovers
from studio.jobs.handed_job import HandedJob
from studio.jobs.progress import ErrorBoundary, ProgressReporter
from studio.jobs.queue import DEVICE_KINDS, QUICK_KINDS, Job, Jobs
from studio.jobs.training_process import TrainingChild
from studio.runs.run import Run

log = logging.getLogger(__name__)

BUSY_POLL_SECONDS = 0.015
"""Polling interval: 70 polls per second cost a thousandth of a core, and 15 ms are not noticeable."""
IDLE_POLL_SECONDS = 0.1
IDLE_AFTER = 900
POLL_SECONDS = 2.0
EXIT_AFTER_SECONDS = 4
"""The worker exits after this time without a live client process and without a job."""
PAUSE_TIMEOUT_SECONDS = 30
"""Training pauses at its next step; after this timeout the image is generated while training runs, which is slower."""
STAY_PAUSED_SECONDS = 1.0
"""A dragged slider requests the next image at once; resuming between two images would cost a step each time."""
EARLY_EXIT_SECONDS = 60
MAX_STARTS = 3
"""Without this limit, a worker that cannot start (a broken installation, a driver) would be restarted endlessly while jobs wait."""
PRELOAD_AFTER_SECONDS = 3
"""Importing torch keeps a core busy for seconds; loading the page has priority."""


def ensure(home: Home) -> None:
    """Start the worker if none runs, and keep it running while this process lives. Cheap enough to call on every click.

    StudioError if it died three times in a row right after its start; it is tried again a minute later.
    """
    with _start_lock(home):
        client = home.root / "visitors" / str(os.getpid())
        if not client.exists():
            client.parent.mkdir(exist_ok=True)
            write_atomically(client, (platform.start_mark(os.getpid()) or "").encode())
        state = _state(home)
        if platform.alive(state.get("pid"), state.get("mark")):
            return
        starts = [start for start in state.get("starts", []) if 0 <= time.time() - start < EARLY_EXIT_SECONDS]
        if len(starts) >= MAX_STARTS:
            raise StudioError(f"The worker process ends right after it starts; see {home.logs / 'worker.log'}.")
        child = platform.spawn(platform.module_command("studio.jobs.worker", home.root), home.logs / "worker.log")
        state = {"pid": child.pid, "mark": platform.start_mark(child.pid), "starts": [*starts, time.time()]}
        write_atomically(home.root / "worker.json", json.dumps(state).encode())


def _start_lock(home: Home) -> FileLock:
    return FileLock(home.root / "worker-start.lock", "The worker's start", wait=True)


STATE = {"pid": int, "mark": (str, damage.ABSENT), "starts": list}


def _state(home: Home) -> dict:
    try:
        return damage.read_object(home.root / "worker.json", STATE)
    except damage.Damaged:
        return {}


def supervise(home: Home, jobs: Jobs) -> None:
    """Recover jobs whose process died, and start a worker for waiting jobs; if it cannot start, these jobs fail with the reason."""
    jobs.recover()
    if jobs.list(kinds=DEVICE_KINDS, states=("waiting", "running"), limit=1):
        try:
            ensure(home)
        except StudioError as error:
            jobs.fail_waiting(DEVICE_KINDS, str(error))


def start_supervisor(home: Home) -> threading.Thread:
    """Start a thread that calls `supervise` periodically; for the web process, once at its start."""
    jobs = Jobs(home.database)

    def run_forever() -> None:
        try:
            leftovers.sweep(home)
        except OSError as error:
            log.warning("could not delete unfinished files: %s", error)
        while True:
            try:
                supervise(home, jobs)
            except (sqlite3.Error, OSError) as error:
                # A full disk or a locked file is temporary; this thread must not end.
                log.warning("could not supervise the jobs: %s", error)
            time.sleep(POLL_SECONDS)

    ensure(home)
    thread = threading.Thread(target=run_forever, name="job-supervisor", daemon=True)
    thread.start()
    return thread


class Worker:
    def __init__(self, home: Home):
        # Imported here: it imports captioners and families, which the web process does not need.
        from studio.generation.model_cache import ModelCache

        self.home = home
        self.jobs = Jobs(home.database)
        self.models = ModelCache()
        self.training: TrainingChild | None = None
        self.handed: list[HandedJob] = []
        self.seen: int | None = None
        self.last_job = time.monotonic()
        self.last_poll = -POLL_SECONDS
        self.unused_since: float | None = None
        self.preloaded = False

    def run(self) -> None:
        """Run jobs until the worker is no longer needed."""
        self.recover()
        began = time.monotonic()
        while self.run_once():
            if not self.preloaded and time.monotonic() - began > PRELOAD_AFTER_SECONDS:
                self.preload()
            quick = self.training or time.monotonic() - self.last_job < IDLE_AFTER
            time.sleep(BUSY_POLL_SECONDS if quick else IDLE_POLL_SECONDS)

    def run_once(self) -> bool:
        """Process training events and waiting jobs; False if the worker should exit."""
        while True:
            self.follow_training()
            # Read before claiming, so that a job submitted in between is seen at the next poll.
            changes = self.jobs.data_version()
            job = self.claim() if changes != self.seen else None
            self.seen = changes
            if job is None:
                break
            self.run_job(job)
            self.last_job, self.seen = time.monotonic(), None
        now = time.monotonic()
        if self.training is not None and self.training.run.pause_requested and now - self.last_job > STAY_PAUSED_SECONDS:
            self.training.run.clear_pause()
        if now - self.last_poll > POLL_SECONDS:
            self.last_poll, self.seen = now, None
            return not self.should_exit()
        return True

    def claim(self) -> Job | None:
        """The next job. During a training one that it has no room for waits, with the reason in its row."""
        if self.training is None:
            return self.jobs.claim(QUICK_KINDS, os.getpid()) or self.jobs.claim(("train",), os.getpid())
        for job in self.jobs.queue(QUICK_KINDS):
            if job.state == "waiting":
                reason = self.conflict(self.training, job)
                if not reason and (claimed := self.jobs.claim_one(job.id, os.getpid())):
                    return claimed
                if reason != job.message:
                    self.jobs.explain(job.id, reason)
        return None

    def conflict(self, training: TrainingChild, job: Job) -> str:
        """Why a job has to wait for the end of the training; empty if it need not. A GPU has no room for a second model, RAM usually has."""
        try:
            if job.kind == "generate" and training.draws(Recipe.from_json(job.payload["recipe"])):
                return ""
        except (StudioError, KeyError):
            # The job fails with this when it runs.
            return ""
        return training.conflict(job.kind, job.owner) if (training.device or self.models.choose_device()) == "cuda" else ""

    def follow_training(self) -> None:
        """Process what the training has done. When it ends, draw the images that it had no time for."""
        training, handed = self.training, self.handed
        if training is None:
            return
        alive = training.tick()
        unfinished = [each for each in handed if each.tick(functools.partial(training.drawing_waits, each.job.owner))]
        self.handed = unfinished
        if alive:
            return
        training.requests.clear()
        self.training, self.handed, self.seen = None, [], None
        for each in unfinished:
            if training.crashed:
                self.jobs.interrupt(each.job.id, "The training that was to generate this image ended unexpectedly. Generate the image again.")
            else:
                self.run_job(each.job)

    def recover(self) -> None:
        """Take over from a worker that died: attach to running training processes, requeue its other jobs."""
        self.jobs.recover()
        self.jobs.delete_old()
        for job in self.jobs.list(kinds=("train",), states=("running",)):
            with self._error_boundary(job):
                child = TrainingChild.attach(self.jobs, job, Run.open(self.home.workspace(job.owner), job.payload["run"]))
                if child.tick():
                    self.training = child
                else:
                    child.requests.clear()

    def preload(self) -> None:
        """Load the built-in base and generate one step, so that the first image is fast. Once, and only while a client process lives."""
        if self.training is not None or self.unused_since is not None:
            return
        self.preloaded = True
        if self.models.device:
            return
        try:
            recipe = Recipe(base_model=families.BUILTIN_ID, num_inference_steps=1)
            self.models.generate(recipe, self.home.workspace("local"), lambda done, total: None)
        except (StudioError, OSError, RuntimeError, ValueError, KeyError, ImportError) as error:
            # The first real job will show the error to the user.
            log.warning("the built-in base could not be loaded ahead of time: %s", error)

    def run_job(self, job: Job) -> None:
        with self._error_boundary(job) as boundary:
            if job.kind == "train":
                self.train(job)
            elif job.kind == "generate" and self.training is not None and self.is_drawn_by(self.training, job):
                self.hand_over(job, self.training)
            else:
                report = ProgressReporter(self.jobs, job.id)
                body = {"generate": self.generate, "caption": self.caption}[job.kind]
                self.pause_training(report)
                self.jobs.finish(job.id, body(job, report))
        if boundary.unexpected:
            # Running out of memory or a bug may leave half a model in memory; after a refused LoRA or base the loaded models are intact.
            self.models.clear()

    def _error_boundary(self, job: Job) -> ErrorBoundary:
        return ErrorBoundary(self.jobs, job, self.home.logs / "worker.log")

    def train(self, job: Job) -> None:
        run = Run.open(self.home.workspace(job.owner), job.payload["run"])
        self.models.free_memory()
        self.training = TrainingChild.start(self.jobs, job, run, self.home.logs / f"{run.id}.log")

    def is_drawn_by(self, training: TrainingChild, job: Job) -> bool:
        """Whether the training has the base of an image. Until it has loaded that, a small base that stayed in RAM draws at once."""
        recipe = Recipe.from_json(job.payload["recipe"])
        return training.draws(recipe) and (training.loaded or not self.models.is_loaded(recipe))

    def hand_over(self, job: Job, training: TrainingChild) -> None:
        """Let the training process draw; it must not wait for the end of a pause."""
        training.run.clear_pause()
        handed = HandedJob(self.jobs, job, training.requests)
        training.requests.submit(handed.key, self.home.workspace(job.owner), job.payload)
        self.handed.append(handed)

    def pause_training(self, report: ProgressReporter) -> None:
        """Request a pause of the running training at its next step, and wait for it. One that still loads has no steps to wait for."""
        if self.training is None:
            return
        self.training.run.request_pause()
        deadline = time.monotonic() + PAUSE_TIMEOUT_SECONDS
        while True:
            # First, since the last event known may be a pause that is over.
            self.follow_training()
            if self.training is None or self.training.paused or not self.training.loaded or time.monotonic() > deadline:
                return
            report.check()
            time.sleep(0.01)

    def generate(self, job: Job, report: ProgressReporter) -> dict:
        """{"recipe", "count"} -> {"images": ids, "seconds", "notes"}."""
        if not self.models.is_loaded(Recipe.from_json(job.payload["recipe"])):
            report(0, 0, "Loading the base model; it is downloaded from the Hub if needed")
        return generate_images(job.payload, self.home.workspace(job.owner), self.models.generate, report)

    def caption(self, job: Job, report: ProgressReporter) -> dict:
        """{"dataset", "captioner", "only_empty", "class_noun"} -> {"captioned", "kept", "failed", "unknown", "shortened"}."""
        from studio.datasets import captioners
        from studio.datasets.captioning import caption_dataset
        from studio.datasets.dataset import Dataset

        payload = job.payload
        dataset = Dataset.open(self.home.workspace(job.owner), payload["dataset"])
        name = payload.get("captioner", "builtin")
        downloading = f"Downloading {captioners.CAPTIONERS[name].title}" if name in captioners.CAPTIONERS else ""
        report(0, 0, "Loading the captioner")
        captioner = self.models.captioner(name, lambda done, total: report(done, total, downloading))
        return caption_dataset(
            dataset, name, captioner, bool(payload.get("only_empty", True)), ProgressReporter(self.jobs, job.id), payload.get("class_noun", "")
        )

    def should_exit(self) -> bool:
        """Whether the worker can exit: no client process has lived and no job has been unfinished for some seconds."""
        clients = [path for path in (self.home.root / "visitors").glob("*") if path.name.isdigit()]
        for path in clients:
            if not platform.alive(int(path.name), path.read_text() or None):
                path.unlink(missing_ok=True)
        busy = self.training is not None or any(path.exists() for path in clients)
        if busy or self.jobs.list(kinds=DEVICE_KINDS, states=("waiting", "running"), limit=1):
            self.unused_since = None
            return False
        self.unused_since = self.unused_since or time.monotonic()
        return time.monotonic() - self.unused_since > EXIT_AFTER_SECONDS


def main() -> None:
    configure("worker")
    home = Home(Path(sys.argv[1]))
    lock = FileLock(home.root / "worker.lock", "The worker")
    if not lock.acquire():
        log.warning("another worker is already running")
        return
    log_packages()
    worker = Worker(home)
    while True:
        worker.run()
        # `ensure` needs this lock too: after it is released, the next caller sees that this worker has gone and starts another.
        with _start_lock(home):
            if worker.should_exit():
                write_atomically(home.root / "worker.json", b"{}")
                lock.release()
                return


if __name__ == "__main__":
    main()
