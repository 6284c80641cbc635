"""List of all runs, with checkboxes to compare some of them, and the training queue, whose order can be changed."""

from collections.abc import Collection
from dataclasses import dataclass, replace

from studio.config import TrainConfig
from studio.core.errors import StudioError
from studio.core.wording import counted
from studio.core.workspace import Workspace
from studio.jobs.queue import Job
from studio.runs.comparison import FEWEST, MOST
from studio.runs.run import Run
from studio.ui.components import estimate, run_card
from studio.ui.components.html import duration
from studio.ui.components.run_card import RunCard
from studio.ui.components.run_state import BUSY, condition
from studio.ui.components.templates import render
from studio.ui.studio import Studio


@dataclass(frozen=True)
class Queued:
    """A run in the queue; its card says how many steps and when it starts."""

    card: RunCard
    job: int
    place: int


def listing(runs: list[Run], jobs: dict[str, Job], open_id: str | None, picked: Collection[str] = ()) -> str:
    """Every run, starred ones first: open it, tick it to compare, or remove it (with undo)."""
    if not runs:
        return ""
    cards = [run_card.make(run, condition(run, jobs.get(run.id))) for run in runs]
    entries = [(card, card.state in BUSY) for card in sorted(cards, key=lambda card: not card.starred)]
    return render("run_list", "listing", entries, open_id, picked, _compare(len(picked), len(runs)), ticks=len(runs) >= FEWEST)


def _compare(picked: int, runs: int) -> str:
    if runs < FEWEST:
        return ""
    if picked < FEWEST:
        return render("run_list", "hint", "Select another run to compare." if picked else f"Select {FEWEST} to {MOST} runs to compare.")
    if picked > MOST:
        return render("run_list", "hint", f"{picked} runs are selected; at most {MOST} can be compared.")
    return render("run_list", "compare", picked)


def waiting(studio: Studio, owner: str) -> str:
    """The training queue: what runs now, then the caller's own waiting runs in their order. Empty when none of theirs waits."""
    queue = studio.jobs.queue(("train",))
    own = [job.id for job in queue if job.owner == owner and job.state == "waiting"]
    if not own:
        return ""
    forecast = Forecast(studio.home.workspace(owner))
    current, entries, place = [], [], 0
    for job in queue:
        run = _open(studio, job) if job.owner == owner else None
        if job.state == "running":
            current.append(_current(run, job))
            forecast.add(job.seconds_left)
            continue
        place += 1
        if run is None:
            forecast.add(None)
        else:
            entries.append(_queued(run, job, place, forecast))
    return render("run_list", "waiting", current, entries, own)


class Forecast:
    """Seconds until the next run in the queue starts; None once one of those before it has an unknown length."""

    def __init__(self, workspace: Workspace):
        self.workspace = workspace
        self.seconds: float | None = 0.0
        self.paces: dict[tuple[str, int, int], float | None] = {}

    def pace(self, config: TrainConfig) -> float | None:
        """Seconds per step, looked up once per kind of run: it reads every run of the workspace."""
        key = (config.model.base_model, config.dataset.resolution, config.training.train_batch_size)
        if key not in self.paces:
            self.paces[key] = estimate.seconds_per_step(self.workspace, config)
        return self.paces[key]

    def add(self, seconds: float | None) -> None:
        self.seconds = None if self.seconds is None or seconds is None else self.seconds + seconds


def _current(run: Run | None, job: Job) -> str:
    """The running training. Of another user's run only the time left is shown."""
    text = "Another user's training is running" if run is None else f"Now: {run.title}, step {job.done:,} of {job.total:,}"
    return text + ("." if job.seconds_left is None else f", {duration(job.seconds_left)} left.")


def _queued(run: Run, job: Job, place: int, forecast: Forecast) -> Queued:
    now = condition(run, job)
    steps = now.total - now.step
    pace = forecast.pace(run.config)
    seconds = pace * steps if pace else None
    facts = [f"{counted(steps, 'step')}{' to go' if now.step else ''}" + (f", about {duration(seconds)}" if seconds else "")]
    if forecast.seconds:
        facts.append(f"starts in about {duration(forecast.seconds)}")
    forecast.add(seconds)
    return Queued(replace(run_card.make(run, now), words=", ".join(facts)), job.id, place)


def _open(studio: Studio, job: Job) -> Run | None:
    try:
        return Run.open(studio.home.workspace(job.owner), job.payload["run"])
    except StudioError:
        return None
