"""Trainings begin here: runs are written down and queued, all that were asked for or none, and a double click is one. No torch."""

import hashlib
import json
import shutil
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from studio import config as configs
from studio.config import TrainConfig
from studio.core.errors import StudioError
from studio.core.platform import FileLock
from studio.core.workspace import Workspace
from studio.datasets.dataset import Dataset
from studio.jobs.queue import UNFINISHED, Job, Jobs
from studio.runs import sweeps
from studio.runs.creation import create_run, repeat_run
from studio.runs.run import Run

MAX_JOBS_CHECKED = 500


@dataclass(frozen=True)
class TrainingRequest:
    """One run that somebody asks for."""

    config: TrainConfig
    title: str


def train(workspace: Workspace, jobs: Jobs, dataset: Dataset, wanted: Sequence[TrainingRequest]) -> list[tuple[Run, Job]]:
    """New runs of a dataset as it is now. StudioError, and nothing of it done, when one of them cannot begin."""
    return _begin(workspace, jobs, wanted, dataset.sha256(), lambda each: create_run(workspace, each.config, dataset, each.title))


def train_again(workspace: Workspace, jobs: Jobs, run: Run, settings: Sequence[str] = (), title: str = "") -> list[tuple[Run, Job]]:
    """New runs with the settings and the very pictures of another, apart from what these settings say; several values are several runs.

    They are called like it, and by what differs.
    """
    values = json.loads(configs.dump(run.requested))
    several = sweeps.combinations(settings)
    base = sweeps.strip_settings(run.title, settings)
    name = title or (base if len(several) > 1 else f"{base}, {', '.join(map(sweeps.setting_label, settings)) or 'again'}")
    wanted = [TrainingRequest(configs.build(values, *each.settings), each.named(name)) for each in several]
    return _begin(workspace, jobs, wanted, run.id, lambda each: repeat_run(run, workspace, each.config, each.title))


def retry(workspace: Workspace, jobs: Jobs, run: Run, number: int) -> tuple[Run, Job]:
    """A new run of the same pictures with what the failed one proposes, by its place in `run.retries()`."""
    offered = run.retries()
    if not 0 <= number < len(offered):
        raise StudioError(f"{run.title} does not propose this to try again with (any more); use its settings and change them by hand.")
    changes = offered[number]["set"]
    return train_again(workspace, jobs, run, [f"{path}={'none' if value is None else json.dumps(value)}" for path, value in changes.items()])[0]


def resume(jobs: Jobs, workspace: Workspace, run: Run) -> Job:
    """Queue a run that is there already: one that never began, was stopped or made longer."""
    return jobs.submit(workspace.owner, "train", {"run": run.id}, key=run.job_key)


def _begin(
    workspace: Workspace, jobs: Jobs, wanted: Sequence[TrainingRequest], pictures: str, make: Callable[[TrainingRequest], Run]
) -> list[tuple[Run, Job]]:
    """`pictures` says which pictures: who asks for the same again while it is unfinished gets what is there already."""
    with FileLock(workspace.root / "start.lock", "The start of a training", wait=True):
        unfinished = jobs.list(workspace.owner, kinds=("train",), states=UNFINISHED, limit=MAX_JOBS_CHECKED)
        known = {job.payload["asked"]: job for job in unfinished if "asked" in job.payload}
        asked = [_hash(each, pictures) for each in wanted]
        made = {}
        try:
            for each, mark in zip(wanted, asked):
                if mark not in known and mark not in made:
                    made[mark] = make(each)
            new = jobs.submit_all(workspace.owner, "train", [({"run": run.id, "asked": mark}, run.job_key) for mark, run in made.items()])
        except StudioError:
            for run in made.values():
                shutil.rmtree(run.path)
            raise
        known |= dict(zip(made, new))
        return [(made.get(mark) or Run.open(workspace, known[mark].payload["run"]), known[mark]) for mark in asked]


def _hash(wanted: TrainingRequest, pictures: str) -> str:
    return hashlib.sha256(json.dumps([pictures, wanted.title, wanted.config.model_dump(mode="json")], sort_keys=True).encode()).hexdigest()
