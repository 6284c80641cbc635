"""How a training run looks: its state in words, the film of samples, the loss, and what can be done with it."""

import functools
from dataclasses import dataclass, field
from pathlib import Path

from studio.config import schedules
from studio.datasets.trigger_words import fill_placeholder, has_word
from studio.jobs.queue import Job
from studio.runs.run import Run
from studio.ui import files
from studio.ui.components import loss_plot
from studio.ui.components.html import bar, duration, notice, size, term, text
from studio.ui.studio import Studio

WORDS = {
    "created": "Not started",
    "waiting": "Waiting for its turn",
    "running": "Learning",
    "paused": "Paused for a moment to draw",
    "full": "Waiting for room on the disk",
    "stopped": "Stopped, everything saved",
    "finished": "Finished",
    "failed": "Failed",
    "interrupted": "Interrupted, nothing lost",
}
CHECKPOINT = term("checkpoint", "What was learnt up to a step, saved. Later ones know your pictures better, until they copy them.")
BUSY = ("waiting", "running", "paused", "full")
STEPS_RUN = {"compiled": "steps compiled", "graph": "steps recorded as one graph"}
"""How a card runs the steps, where it is not the ordinary way."""
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
    held_back: tuple[dict, ...] = ()
    retries: tuple[dict, ...] = ()
    in_one_go: bool = True
    preflight: dict = field(default_factory=dict)
    execution: str = ""

    @property
    def step(self) -> int:
        return self.curve[-1]["step"] if self.curve else 0

    @property
    def can_resume(self) -> bool:
        return self.state in ("created", "stopped", "interrupted", "failed")


@dataclass(frozen=True)
class Told:
    """What a run's events say, as of one size of their file."""

    state: str
    curve: tuple[dict, ...]
    notes: tuple[str, ...] = ()
    failure: str = ""
    held_back: tuple[dict, ...] = ()
    retries: tuple[dict, ...] = ()
    in_one_go: bool = True
    """Whether one process did it all, so that its job's time is the run's."""
    preflight: dict = field(default_factory=dict)
    """What the first steps took; empty before them."""
    execution: str = ""


@functools.lru_cache(maxsize=256)
def _told(path: Path, size: int, modified_ns: int) -> Told:
    """Runs that are over are read once; the page asks every second."""
    run = Run(path)
    events = run.events()[0]
    notes = dict.fromkeys(event["message"] for event in events if event["kind"] == "note")
    failures = [event["message"] for event in events if event["kind"] == "failed"]
    return Told(
        run.state,
        tuple(run.curve()),
        tuple(notes),
        failures[-1] if failures else "",
        tuple(run.curve("validation")),
        tuple(run.retries()),
        sum(1 for event in events if event["kind"] == "started") < 2,
        next((event for event in reversed(events) if event["kind"] == "preflight"), {}),
        next((event.get("execution", "") for event in reversed(events) if event["kind"] == "started"), ""),
    )


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
    told = _told(run.path, stat.st_size, stat.st_mtime_ns) if stat else Told("created", ())
    if job and job.unfinished:
        state = "waiting" if job.state == "waiting" else told.state if told.state in ("paused", "full") else "running"
    elif told.state in ("finished", "stopped", "failed"):
        state = told.state
    elif job and job.state == "failed":
        state = "failed"
    elif told.state == "created" and (job is None or job.state == "cancelled"):
        state = "created"
    else:
        state = "interrupted"
    message = told.failure if told.state == state == "failed" else ""
    if not message and state in ("failed", "interrupted"):
        message = job.error if job else ""
    retries = told.retries if state == "failed" else ()
    total = run.config.training.max_train_steps
    return Condition(state, job, told.curve, total, message, told.notes, told.held_back, retries, told.in_one_go, told.preflight, told.execution)


def head(run: Run, now: Condition) -> str:
    """Title, state, progress and what the numbers mean."""
    facts = [f"step {now.step:,} of {now.total:,}"]
    if now.curve:
        facts.append(f"{now.curve[-1]['seconds_per_step']:.2f} s a step")
    if now.state == "running" and now.job and now.job.seconds_left is not None:
        facts.append(f"{duration(now.job.seconds_left)} left")
    if now.preflight and now.state in BUSY:
        facts.append(f"{now.preflight['peak_mb'] / 1000:.1f} GB of memory")
        facts.append(f"up to {size(now.preflight['disk_mb'] * 1e6)} on the disk")
    if now.execution in STEPS_RUN:
        facts.append(STEPS_RUN[now.execution])
    if now.job and now.job.cancel_requested and now.job.unfinished:
        facts.append("saving, then stopping")
    if now.state == "finished":
        facts = [f"{now.total:,} steps" + (f" in {duration(now.job.seconds)}" if now.job and now.job.seconds and now.in_one_go else "")]
        latest = run.latest_adapter()
        facts += [f"file of {size(latest.stat().st_size)}"] if latest else []
    words = now.job.message if now.state == "running" and not now.curve and now.job and now.job.message else WORDS[now.state]
    progress = bar(now.step, now.total) if now.state in (*BUSY, "stopped", "interrupted") else ""
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
        if now.state not in BUSY:
            return ""
        when = "once it has begun" if now.state == "waiting" else "in a moment"
        return f'<div class="small">The first pictures appear here {when}: one row a prompt, one column a checkpoint.</div>'
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
        prompt = fill_placeholder(written, word)
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
    drawing = loss_plot.loss(now.curve, now.total, now.held_back)
    if not drawing:
        return ""
    explained = "It should fall, then waver; judge by the pictures."
    if now.held_back:
        lowest = min(now.held_back, key=lambda event: event["loss"])
        explained = (
            f"{KEY} Dashed: the pictures held back, lowest at {column(lowest['step'])}. While that line falls too, it learns; "
            "when it rises again, it copies your pictures, and an earlier checkpoint is the better one."
        )
    return f'<div class="lossbox"><h3 class="part">How wrong it still is (loss)</h3>{drawing}<div class="small">{explained}</div></div>'


KEY = '<svg class="loss key" viewBox="0 0 26 8" aria-hidden="true"><path class="held" d="M0 4 L26 4"/></svg>'


def more(run: Run, now: Condition) -> str:
    """What can be done with this run apart from stopping and trying it."""
    parts = []
    if now.retries:
        buttons = "".join(
            f'<button class="tool strong" data-click="retry" data-number="{number}">Try again with {text(each["title"])}</button>'
            for number, each in enumerate(now.retries)
        )
        parts.append(f'<div class="tools">{buttons}</div><div class="small">A new run of the same pictures; this one stays as it is.</div>')
    if now.state == "finished":
        half = max(1, now.total // 2)
        ask = f'<label>Go on for <input type="number" id="more-steps" min="1" step="1" value="{half}"> more steps</label>'
        button = '<button class="tool" data-click="extend" data-with="#more-steps">Train longer</button>'
        parts.append(f'<div class="tools">{ask}{button}</div>{_fading(run)}')
    copies = '<button class="tool" data-click="copy">Use these settings</button>'
    if run.adapters():
        copies += '<button class="tool" data-click="begin">Start from this LoRA</button>'
    parts.append(f'<div class="tools">{copies}</div>')
    return f'<div class="more">{"".join(parts)}</div>'


def _fading(run: Run) -> str:
    """What a slowing scheduler means for going on after its end."""
    if schedules.rate_factor(run.config.training, 1.0) > 0:
        return ""
    words = "The strength of learning (learning rate) had faded to zero at the end; it is spread over the new length, so it rises again from here."
    return f'<div class="small">{words}</div>'
