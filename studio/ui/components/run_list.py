"""The list of all runs, with ticks to compare some of them, and the list of those that wait, with their order in people's hands."""

from collections.abc import Collection
from dataclasses import dataclass

from studio.core.errors import StudioError
from studio.jobs.queue import Job
from studio.runs.comparison import FEWEST, MOST
from studio.runs.run import Run
from studio.ui import files
from studio.ui.components import estimate
from studio.ui.components.html import counted, duration
from studio.ui.components.run_state import BUSY, WORDS, Condition, condition
from studio.ui.components.templates import render
from studio.ui.studio import Studio


@dataclass(frozen=True)
class Entry:
    """A run as the list of all runs shows it."""

    id: str
    title: str
    state: str
    picture: str
    busy: bool


@dataclass(frozen=True)
class Queued:
    """A run as the list of what waits shows it."""

    id: str
    job: int
    title: str
    place: int
    facts: str


def listing(runs: list[Run], jobs: dict[str, Job], open_id: str | None, picked: Collection[str] = ()) -> str:
    """Every run: open it, tick it to compare, or take it away (with undo)."""
    if not runs:
        return ""
    entries = [_entry(run, condition(run, jobs.get(run.id))) for run in runs]
    return render("run_list", "listing", entries, open_id, picked, _compare(len(picked), len(runs)), ticks=len(runs) >= FEWEST)


def _entry(run: Run, now: Condition) -> Entry:
    left = f"{WORDS[now.state]}, step {now.step:,} of {now.total:,}"
    if now.state in ("created", "finished"):
        left = f"{WORDS[now.state]}, {now.total:,} steps"
    if now.state == "running" and not now.step and now.job.message:
        left = now.job.message
    samples = run.samples()
    picture = files.url("sample", run.id, max(samples), 0) if samples else ""
    return Entry(run.id, run.title, left, picture, now.state in BUSY)


def _compare(picked: int, runs: int) -> str:
    if runs < FEWEST:
        return ""
    if picked < FEWEST:
        return render("run_list", "hint", "Tick another to compare them." if picked else f"Tick {FEWEST} to {MOST} to compare them.")
    if picked > MOST:
        return render("run_list", "hint", f"{picked} are ticked; {MOST} at most can be compared.")
    return render("run_list", "compare", picked)


def waiting(studio: Studio, owner: str) -> str:
    """What learns now and how long it will, then the caller's own runs that wait, in their order. Empty when none of theirs waits."""
    queue = studio.jobs.queue(("train",))
    if not any(job.owner == owner and job.state == "waiting" for job in queue):
        return ""
    workspace, paces = studio.home.workspace(owner), {}
    now, waiting, place, left = [], [], 0, 0.0
    mine = [job.id for job in queue if job.owner == owner and job.state == "waiting"]
    for job in queue:
        run = _opened(studio, job) if job.owner == owner else None
        if job.state == "running":
            # Nobody learns anything of somebody else's run but how long it takes.
            words = "Somebody else's training runs now" if run is None else f"Now: {run.title}, step {job.done:,} of {job.total:,}"
            now.append(words + ("." if job.seconds_left is None else f", {duration(job.seconds_left)} left."))
            left = None if left is None or job.seconds_left is None else left + job.seconds_left
            continue
        place += 1
        if run is None:
            left = None
            continue
        config = run.config
        like = (config.model.base_model, config.dataset.resolution, config.training.train_batch_size)
        if like not in paces:
            paces[like] = estimate.seconds_a_step(workspace, config)
        told = condition(run, job)
        steps = told.total - told.step
        takes = paces[like] * steps if paces[like] else None
        facts = [f"{counted(steps, 'step')}{' to go' if told.step else ''}" + (f", about {duration(takes)}" if takes else "")]
        facts += [f"begins in about {duration(left)}"] if left else []
        left = None if left is None or takes is None else left + takes
        waiting.append(Queued(run.id, job.id, run.title, place, ", ".join(facts)))
    return render("run_list", "waiting", now, waiting, mine)


def _opened(studio: Studio, job: Job) -> Run | None:
    try:
        return Run.open(studio.home.workspace(job.owner), job.payload["run"])
    except StudioError:
        return None
