"""Where a run continues: its checkpoints, and its events after a kill, a stop or a pause."""

import time

from studio.runs.run import Run
from studio.training import checkpoints
from studio.training.checkpoints import Disk
from studio.training.parameters import TrainedParameters

PAUSE_POLL_SECONDS = 0.02


def save_checkpoint(run: Run, step: int, parameters: TrainedParameters, disk: Disk) -> None:
    """Write a checkpoint: weights, EMA and optimizer state."""
    tensors, facts = parameters.state()
    checkpoints.save(run.checkpoints_dir, step, tensors, facts, disk)
    run.append({"kind": "checkpoint", "step": step})


def restore(run: Run, parameters: TrainedParameters) -> int:
    """Load the newest intact checkpoint; returns its step, 0 if there is none."""
    newest = checkpoints.load_newest(run.checkpoints_dir)
    if newest is None:
        return 0
    step, tensors, facts = newest
    parameters.restore(tensors, facts)
    return step


def last_step(run: Run) -> int:
    """Last step in the run's events, 0 before the first."""
    return (run.curve() or [{"step": 0}])[-1]["step"]


def repair_events(run: Run) -> None:
    """Terminate an event that a kill cut off; otherwise the first event of the resume would be appended to that line and lost."""
    if run.events_file.exists() and not run.events_file.read_bytes().endswith(b"\n"):
        with open(run.events_file, "ab") as file:
            file.write(b"\n")


def wait_while_paused(run: Run, step: int) -> None:
    """Block until the pause request is withdrawn or a stop is requested."""
    run.append({"kind": "pausing", "step": step})
    while run.pause_requested and not run.stop_requested:
        time.sleep(PAUSE_POLL_SECONDS)
    run.append({"kind": "resumed", "step": step})
