"""Start of training: runs are created and queued, all that were requested or none; a double click starts one run. No torch."""

import hashlib
import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from studio import config as configs
from studio.config import TrainConfig
from studio.core import storage
from studio.core.errors import StudioError
from studio.core.locks import FileLock
from studio.core.workspace import Workspace
from studio.datasets.dataset import Dataset
from studio.jobs.queue import UNFINISHED, Job, Jobs
from studio.runs import sweeps
from studio.runs.creation import create_run, repeat_run
from studio.runs.run import Run

MAX_JOBS_CHECKED = 500


@dataclass(frozen=True)
class TrainingRequest:
    """One requested run. Without a title it gets an automatic name with this note."""

    config: TrainConfig
    title: str
    note: str = ""


def train(workspace: Workspace, jobs: Jobs, dataset: Dataset, requests: Sequence[TrainingRequest]) -> list[tuple[Run, Job]]:
    """Create and queue new runs on the current dataset. StudioError if one of them cannot start; then none is created."""
    return _begin(workspace, jobs, requests, dataset.sha256(), lambda each: create_run(workspace, each.config, dataset, each.title, each.note))


def train_again(workspace: Workspace, jobs: Jobs, run: Run, settings: Sequence[str] = (), title: str = "") -> list[tuple[Run, Job]]:
    """Create and queue new runs with the images and settings of another run, except for `settings`; several values give several runs.

    Titles are that run's title and the settings that differ; a run with an automatic name is followed by others with automatic names.
    """
    values = json.loads(configs.dump(run.requested))
    several = sweeps.combinations(settings)
    if not title and run.marks.automatic:
        automatic = [
            TrainingRequest(configs.build(values, *each.settings), "", sweeps.note(each.settings) or ("" if settings else "again"))
            for each in several
        ]
        return _begin(workspace, jobs, automatic, run.id, lambda each: repeat_run(run, workspace, each.config, "", each.note))
    base = sweeps.strip_settings(run.title, settings)
    name = title or (base if len(several) > 1 else f"{base}, {', '.join(map(sweeps.setting_label, settings)) or 'again'}")
    requests = [TrainingRequest(configs.build(values, *each.settings), each.named(name)) for each in several]
    return _begin(workspace, jobs, requests, run.id, lambda each: repeat_run(run, workspace, each.config, each.title, each.note))


def retry(workspace: Workspace, jobs: Jobs, run: Run, number: int) -> tuple[Run, Job]:
    """A new run with the same images and the changes that the failed run suggests, by index in `run.retries()`."""
    suggested = run.retries()
    if not 0 <= number < len(suggested):
        raise StudioError(f"{run.title} has no suggestion {number}, or no longer has it; start a new run from its settings and change them.")
    changes = suggested[number]["set"]
    return train_again(workspace, jobs, run, [f"{path}={'none' if value is None else json.dumps(value)}" for path, value in changes.items()])[0]


def resume(jobs: Jobs, workspace: Workspace, run: Run) -> Job:
    """Queue an existing run: one that never started, was stopped, or was extended."""
    return jobs.submit(workspace.owner, "train", {"run": run.id}, key=run.job_key)


def _begin(
    workspace: Workspace, jobs: Jobs, requests: Sequence[TrainingRequest], images: str, make: Callable[[TrainingRequest], Run]
) -> list[tuple[Run, Job]]:
    """Create and queue runs. `images` identifies the images: the same request returns the existing run while that one is unfinished."""
    with FileLock(workspace.root / "start.lock", "The start of training", wait=True):
        unfinished = jobs.list(workspace.owner, kinds=("train",), states=UNFINISHED, limit=MAX_JOBS_CHECKED)
        known = {job.payload["asked"]: job for job in unfinished if "asked" in job.payload}
        hashes = [_hash(each, images) for each in requests]
        created = {}
        try:
            for each, key in zip(requests, hashes):
                if key not in known and key not in created:
                    created[key] = make(each)
            new = jobs.submit_all(workspace.owner, "train", [({"run": run.id, "asked": key}, run.job_key) for key, run in created.items()])
        except StudioError:
            for run in created.values():
                storage.remove_folder(run.path)
            raise
        known |= dict(zip(created, new))
        return [(created.get(key) or Run.open(workspace, known[key].payload["run"]), known[key]) for key in hashes]


def _hash(request: TrainingRequest, images: str) -> str:
    return hashlib.sha256(
        json.dumps([images, request.title or request.note, request.config.model_dump(mode="json")], sort_keys=True).encode()
    ).hexdigest()
