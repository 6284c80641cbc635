"""Log of a run: versions, device, base, dataset and resolved settings at its start, then a line per checkpoint. No captions, prompts or titles.

The worker redirects the output of a training process to logs/<run>.log; a resumed run continues that file.
"""

import logging
import os
import time

from studio.config import TrainConfig, fields, schedules
from studio.core import platform
from studio.core.logging import configure, log_packages
from studio.devices import runtime
from studio.families.base import Family
from studio.families.facts import BaseFolder
from studio.runs.run import Run

log = logging.getLogger(__name__)


def configure_process() -> None:
    """Set up logging of a training process; call it once, before the run starts."""
    # torch's launcher numbers the processes of a distributed run.
    rank = os.environ.get("RANK", "0")
    configure("train" if rank == "0" else f"train-{rank}")
    if rank == "0":
        log_packages()


def log_start(run: Run, config: TrainConfig, base: BaseFolder, family: Family) -> None:
    """Log everything that decides the result of the run, and how the settings left empty were resolved."""
    if not log.isEnabledFor(logging.INFO):
        return
    requested, snapshot = run.requested, run.snapshot
    settings = [(leaf, fields.get(config, leaf.path)) for leaf in fields.leaves(config) if _has_no_text(leaf)]
    resolved = [f"{leaf.path}={value}" for leaf, value in settings if value is not None and fields.get(requested, leaf.path) is None]
    changed = [f"{leaf.path}={value}" for leaf, value in settings if value != leaf.default]
    images = snapshot["pictures"]
    chosen = config.runtime
    log.info("device: %s; dtype %s, attention %s, exact %s", runtime.describe(chosen), chosen.dtype, chosen.attention, chosen.exact)
    log.info("base: %s, family %s, revision %s, %s", base.id, family.name, base.revision or "of a local folder", family.base_title(base))
    log.info("dataset: %d images, %d masks, sha256 %s", len(images), sum("mask" in image for image in images), snapshot["sha256"])
    log.info("optimizer: %s, learning rate %g, %s", config.training.optimizer, config.training.learning_rate, config.training.lr_scheduler)
    for sentence in schedules.describe_extensions(config.training):
        log.info("%s", sentence)
    log.info("resolved automatically: %s", ", ".join(resolved) or "nothing")
    log.info("settings other than the defaults: %s", ", ".join(changed))


def _has_no_text(leaf: fields.Leaf) -> bool:
    """Whether a setting is a number, a switch or one of a list, not something that the user typed."""
    return leaf.choices is not None or leaf.type in (bool, int, float)


def log_resume(step: int, config: TrainConfig) -> None:
    log.info("starts at step %d of %d, execution %s", step, config.training.max_train_steps, config.runtime.execution)


def log_progress(what: str, step: int, config: TrainConfig, seconds_per_step: float | None) -> None:
    """Log an event that happens rarely, such as a checkpoint."""
    speed = f", {seconds_per_step:.3f} s per step" if seconds_per_step else ""
    log.info("%s at step %d of %d%s", what, step, config.training.max_train_steps, speed)


def log_end(what: str, step: int, config: TrainConfig, seconds: float) -> None:
    log.info("%s at step %d after %.1f s; peak memory %.0f MB", what, step, seconds, runtime.peak_bytes(config.runtime) / 1e6)


class StartTimer:
    """Seconds of each phase until the first step, for the log."""

    def __init__(self) -> None:
        self.seconds = {"imports": platform.seconds_since_start()}
        self.began = time.monotonic()

    def end(self, phase: str) -> None:
        """The phase that began with the end of the one before has ended."""
        now = time.monotonic()
        self.seconds[phase] = self.seconds.get(phase, 0.0) + now - self.began
        self.began = now

    def log(self) -> None:
        phases = ", ".join(f"{phase} {seconds:.1f}" for phase, seconds in self.seconds.items())
        log.info("first step %.1f s after the start of the process: %s", sum(self.seconds.values()), phases)
