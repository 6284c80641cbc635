"""The list of all runs, with ticks to compare some of them, and the list of those that wait, with their order in people's hands."""

from collections.abc import Collection

from studio.core.errors import StudioError
from studio.jobs.queue import Job
from studio.runs.comparison import FEWEST, MOST
from studio.runs.run import Run
from studio.ui import files
from studio.ui.components import estimate
from studio.ui.components.html import counted, duration, text
from studio.ui.components.run_view import BUSY, WORDS, condition
from studio.ui.studio import Studio

MOVES = {"first": "&#10514;", "up": "&uarr;", "down": "&darr;"}


def listing(runs: list[Run], jobs: dict[str, Job], open_id: str | None, picked: Collection[str] = ()) -> str:
    """Every run: open it, tick it to compare, or take it away (with undo)."""
    items = ""
    for run in runs:
        now = condition(run, jobs.get(run.id))
        left = f"{WORDS[now.state]}, step {now.step:,} of {now.total:,}"
        if now.state in ("created", "finished"):
            left = f"{WORDS[now.state]}, {now.total:,} steps"
        if now.state == "running" and not now.step and now.job.message:
            left = now.job.message
        samples = run.samples()
        picture = f'<img class="thumb" src="{files.url("sample", run.id, max(samples), 0)}" alt="">' if samples else '<span class="thumb"></span>'
        remove = (
            f'<button class="x" data-click="remove" data-run="{text(run.id)}" title="Remove" aria-label="Remove {text(run.title)}">&times;</button>'
        )
        tick = (
            f'<label class="tick"><input type="checkbox" data-change="pick" data-run="{text(run.id)}" title="Compare"'
            f' aria-label="Compare {text(run.title)}"{" checked" if run.id in picked else ""}></label>'
        )
        current = 'aria-current="true"' if run.id == open_id else ""
        items += (
            f'<li {current}><button class="open" data-click="open" data-run="{text(run.id)}">{picture}'
            f"<span><b>{text(run.title)}</b><small>{text(left)}</small></span></button>"
            f"{tick if len(runs) >= FEWEST else ''}{'<span></span>' if now.state in BUSY else remove}</li>"
        )
    head = f'<div class="listhead"><h3 class="part">All runs</h3>{_compare(len(picked), len(runs))}</div>'
    return f'{head}<ul class="runs">{items}</ul>' if items else ""


def _compare(picked: int, runs: int) -> str:
    if runs < FEWEST:
        return ""
    if picked < FEWEST:
        return f'<span class="small">{"Tick another to compare them." if picked else f"Tick {FEWEST} to {MOST} to compare them."}</span>'
    if picked > MOST:
        return f'<span class="small">{picked} are ticked; {MOST} at most can be compared.</span>'
    return f'<button class="tool strong" data-click="compare">Compare {picked} runs</button>'


def waiting(studio: Studio, owner: str) -> str:
    """What learns now and how long it will, then the caller's own runs that wait, in their order. Empty when none of theirs waits."""
    queue = studio.jobs.queue(("train",))
    if not any(job.owner == owner and job.state == "waiting" for job in queue):
        return ""
    workspace, paces = studio.home.workspace(owner), {}
    now, items, place, left = "", "", 0, 0.0
    mine = [job.id for job in queue if job.owner == owner and job.state == "waiting"]
    for job in queue:
        run = _opened(studio, job) if job.owner == owner else None
        if job.state == "running":
            # Nobody learns anything of somebody else's run but how long it takes.
            words = "Somebody else's training runs now" if run is None else f"Now: {run.title}, step {job.done:,} of {job.total:,}"
            now += f'<div class="small">{text(words)}{"" if job.seconds_left is None else f", {duration(job.seconds_left)} left"}.</div>'
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
        items += _item(job, run, place, ", ".join(facts), mine)
    return f'<h3 class="part">Waiting</h3>{now}<ol class="queue">{items}</ol>'


def _opened(studio: Studio, job: Job) -> Run | None:
    try:
        return Run.open(studio.home.workspace(job.owner), job.payload["run"])
    except StudioError:
        return None


def _item(job: Job, run: Run, place: int, facts: str, mine: list[int]) -> str:
    idle = {"first": mine[0], "up": mine[0], "down": mine[-1]}
    words = {"first": "first", "up": "one up", "down": "one down"}
    buttons = "".join(
        f'<button class="icon" data-click="move" data-job="{job.id}" data-where="{where}" aria-label="Move {text(run.title)} {words[where]}"'
        f' title="{words[where].capitalize()}"{" disabled" if idle[where] == job.id else ""}>{sign}</button>'
        for where, sign in MOVES.items()
    )
    cross = (
        f'<button class="icon" data-click="cancel" data-job="{job.id}" title="Take out of the queue"'
        f' aria-label="Take {text(run.title)} out of the queue">&times;</button>'
    )
    return (
        f'<li><b class="place">{place}</b><button class="open" data-click="open" data-run="{text(run.id)}"><b>{text(run.title)}</b>'
        f'<small>{text(facts)}</small></button><span class="moves">{buttons if len(mine) > 1 else ""}{cross}</span></li>'
    )
