"""How a training run looks: its state in words, the film of samples, the loss, and the list of all runs."""

import functools
from dataclasses import dataclass
from pathlib import Path

from studio.jobs import Job
from studio.runs import Run
from studio.trigger_words import has_word, spoken
from studio.ui import files, plot
from studio.ui.html import bar, duration, notice, size, term, text
from studio.ui.studio import Studio

WORDS = {
    "waiting": "Waiting for its turn",
    "running": "Learning",
    "paused": "Paused for a moment to draw",
    "stopped": "Stopped, everything saved",
    "finished": "Finished",
    "failed": "Failed",
    "interrupted": "Interrupted, nothing lost",
}
CHECKPOINT = term("checkpoint", "What was learnt up to a step, saved. Later ones know your pictures better, until they copy them.")
BUSY = ("waiting", "running", "paused")
WIDEST_FILM = 12
SEPARATOR = " \u00b7 "


@dataclass(frozen=True)
class Condition:
    """What is true of a run right now, from its own events and its newest job."""

    state: str
    job: Job | None
    curve: tuple[dict, ...]
    total: int
    message: str
    notes: tuple[str, ...]

    @property
    def step(self) -> int:
        return self.curve[-1]["step"] if self.curve else 0

    @property
    def can_resume(self) -> bool:
        return self.state in ("stopped", "interrupted", "failed")


@dataclass(frozen=True)
class Told:
    """What a run's events say, as of one size of their file."""

    state: str
    curve: tuple[dict, ...]
    notes: tuple[str, ...]
    failure: str


@functools.lru_cache(maxsize=256)
def _told(path: Path, size: int, modified_ns: int) -> Told:
    """Runs that are over are read once; the page asks every second."""
    run = Run(path)
    events = run.events()[0]
    notes = dict.fromkeys(event["message"] for event in events if event["kind"] == "note")
    failures = [event["message"] for event in events if event["kind"] == "failed"]
    return Told(run.state, tuple(run.curve()), tuple(notes), failures[-1] if failures else "")


def newest_jobs(studio: Studio, owner: str) -> dict[str, Job]:
    """run id -> its newest training job; one that runs counts before one that waits behind it."""
    newest = {}
    for job in studio.jobs.list(owner, kinds=("train",), limit=500):
        known = newest.setdefault(job.payload["run"], job)
        if (known.state, job.state) == ("waiting", "running"):
            newest[job.payload["run"]] = job
    return newest


def condition(run: Run, job: Job | None) -> Condition:
    stat = run.events_file.stat() if run.events_file.exists() else None
    told = _told(run.path, stat.st_size, stat.st_mtime_ns) if stat else Told("created", (), (), "")
    if job and job.unfinished:
        state = "waiting" if job.state == "waiting" else "paused" if told.state == "paused" else "running"
    elif told.state in ("finished", "stopped", "failed"):
        state = told.state
    elif job and job.state == "failed":
        state = "failed"
    else:
        state = "interrupted"
    message = told.failure if told.state == state == "failed" else ""
    if not message and state in ("failed", "interrupted"):
        message = job.error if job else ""
    return Condition(state, job, told.curve, run.config.training.max_train_steps, message, told.notes)


def head(run: Run, now: Condition) -> str:
    """Title, state, progress and what the numbers mean."""
    facts = [f"step {now.step:,} of {now.total:,}"]
    if now.curve:
        facts.append(f"{now.curve[-1]['seconds_per_step']:.2f} s a step")
    if now.state == "running" and now.job and now.job.seconds_left is not None:
        facts.append(f"{duration(now.job.seconds_left)} left")
    if now.job and now.job.cancel_requested and now.job.unfinished:
        facts.append("saving, then stopping")
    if now.state == "finished":
        facts = [f"{now.total:,} steps" + (f" in {duration(now.job.seconds)}" if now.job and now.job.seconds else "")]
        latest = run.latest_adapter()
        facts += [f"file of {size(latest.stat().st_size)}"] if latest else []
    words = now.job.message if now.state == "running" and not now.curve and now.job and now.job.message else WORDS[now.state]
    progress = bar(now.step, now.total) if now.state in ("waiting", "running", "paused", "stopped", "interrupted") else ""
    notes = "".join(notice(each, "warn") for each in now.notes)
    wrong = notice(now.message or "Training ended without saying why; press Resume.", "bad") if now.state == "failed" else notice(now.message, "warn")
    return (
        f'<div class="runhead"><h3>{text(run.title)}</h3><span class="state {now.state}">{text(words)}</span></div>'
        f'{progress}<div class="facts">{text(SEPARATOR.join(facts))}</div>{notes}{wrong}'
    )


def film(run: Run, now: Condition) -> str:
    """A row per prompt, a column per checkpoint from the base on, all from the same seed."""
    samples = run.samples()
    if not samples:
        return (
            ""
            if now.state not in BUSY
            else '<div class="small">The first pictures appear here in a moment: one row a prompt, one column a checkpoint.</div>'
        )
    steps = list(samples)
    if len(steps) > WIDEST_FILM:
        steps = [steps[0], *steps[-WIDEST_FILM + 1 :]]
    saved = {step for step, _ in run.adapters()}
    heads = "".join(
        f'<th scope="col">{column(step)}'
        + (f'<button class="tool use" data-click="use" data-ref="run:{text(run.id)}@{step}">Try</button>' if step in saved else "")
        + "</th>"
        for step in steps
    )
    rows = ""
    config = run.config
    word = config.dataset.trigger_word
    for index, written in enumerate(config.samples.prompts):
        prompt = spoken(written, word)
        cells = "".join(
            f'<td><img src="{files.url("sample", run.id, step, index)}" alt="{text(prompt)}, {column(step)}" loading="lazy"></td>'
            if index < len(samples[step])
            else "<td></td>"
            for step in steps
        )
        kind = "with the trigger word" if has_word(prompt, word) else "without it"
        kind = "another scene" if index > 1 and kind != "without it" else kind
        rows += (
            f'<tr><th scope="row" colspan="{len(steps)}"><b>{kind if word else "prompt"}</b> <span>{text(prompt)}</span></th></tr><tr>{cells}</tr>'
        )
    advice = "take the one that looks best" if len(steps) > 1 else "this is the base before it learns; more come as it goes"
    explained = f'<div class="small">A column is a {CHECKPOINT}, all from the same seed: {advice}.</div>'
    opening = f'{explained}<div class="film" style="--columns:{len(steps)}" tabindex="0" aria-label="Film of samples">'
    return f"{opening}<table><thead><tr>{heads}</tr></thead><tbody>{rows}</tbody></table></div>"


def column(step: int) -> str:
    return f"step {step:,}" if step else "base"


def loss(now: Condition) -> str:
    drawing = plot.loss(now.curve, now.total)
    if not drawing:
        return ""
    explained = "It should fall, then waver; judge by the pictures."
    return f'<div class="lossbox"><h3 class="part">How wrong it still is (loss)</h3>{drawing}<div class="small">{explained}</div></div>'


def listing(runs: list[Run], jobs: dict[str, Job], open_id: str | None) -> str:
    """Every run: open it, or take it away (with undo)."""
    items = ""
    for run in runs:
        now = condition(run, jobs.get(run.id))
        left = f"{WORDS[now.state]}, step {now.step:,} of {now.total:,}" if now.state != "finished" else f"Finished, {now.total:,} steps"
        if now.state == "running" and not now.step and now.job.message:
            left = now.job.message
        samples = run.samples()
        picture = f'<img class="thumb" src="{files.url("sample", run.id, max(samples), 0)}" alt="">' if samples else '<span class="thumb"></span>'
        remove = (
            f'<button class="x" data-click="remove" data-run="{text(run.id)}" title="Remove" aria-label="Remove {text(run.title)}">&times;</button>'
        )
        current = 'aria-current="true"' if run.id == open_id else ""
        items += (
            f'<li {current}><button class="open" data-click="open" data-run="{text(run.id)}">{picture}'
            f"<span><b>{text(run.title)}</b><small>{text(left)}</small></span></button>"
            f"{'' if now.state in BUSY else remove}</li>"
        )
    return f'<h3 class="part">All runs</h3><ul class="runs">{items}</ul>' if items else ""
