"""How a training run looks: its state in words, the film of samples, the loss, and what can be done with it."""

from dataclasses import dataclass

from studio.config import schedules
from studio.datasets.trigger_words import fill_placeholder, has_word
from studio.runs.run import Run
from studio.ui import files
from studio.ui.components import loss_plot
from studio.ui.components.html import duration, share, size
from studio.ui.components.run_state import BUSY, WORDS, Condition, column
from studio.ui.components.templates import render

STEPS_RUN = {"compiled": "steps compiled", "graph": "steps recorded as one graph"}
"""How a card runs the steps, where it is not the ordinary way."""
WIDEST_FILM = 12


@dataclass(frozen=True)
class Column:
    """A checkpoint in the film."""

    number: int
    words: str
    saved: bool


@dataclass(frozen=True)
class Row:
    """A sample prompt in the film: its picture of each column, or nothing."""

    kind: str
    prompt: str
    pictures: list[str]


def head(run: Run, now: Condition) -> str:
    """Title, state, progress and what the numbers mean."""
    words = now.job.message if now.state == "running" and not now.curve and now.job and now.job.message else WORDS[now.state]
    progress = share(now.step, now.total) if now.state in (*BUSY, "stopped", "interrupted") else None
    wrong = now.message or ("Training ended without saying why; press Resume." if now.state == "failed" else "")
    facts = _result(run, now) if now.state == "finished" else _progress(now)
    return render("run_view", "head", run.title, now.state, words, progress, facts, now.notes, wrong)


def _progress(now: Condition) -> list[str]:
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
    return facts


def _result(run: Run, now: Condition) -> list[str]:
    took = f" in {duration(now.job.seconds)}" if now.job and now.job.seconds and now.in_one_go else ""
    latest = run.latest_adapter()
    return [f"{now.total:,} steps{took}", *([f"file of {size(latest.stat().st_size)}"] if latest else [])]


def film(run: Run, now: Condition) -> str:
    """A row per prompt, a column per checkpoint from the base on, all from the same seed."""
    samples = run.samples()
    if not samples:
        if now.state not in BUSY:
            return ""
        return render("run_view", "film_to_come", "once it has begun" if now.state == "waiting" else "in a moment")
    steps = list(samples)
    if len(steps) > WIDEST_FILM:
        steps = [steps[0], *steps[-WIDEST_FILM + 1 :]]
    saved = {step for step, _ in run.adapters()}
    columns = [Column(step, column(step), step in saved) for step in steps]
    word = run.config.dataset.trigger_word
    rows = []
    for index, written in enumerate(run.config.samples.prompts):
        prompt = fill_placeholder(written, word)
        pictures = [files.url("sample", run.id, step, index) if index < len(samples[step]) else "" for step in steps]
        rows.append(Row(_kind(index, prompt, word), prompt, pictures))
    advice = "take the one that looks best" if len(steps) > 1 else "this is the base before it learns; more come as it goes"
    return render("run_view", "film", run.id, columns, rows, advice)


def _kind(index: int, prompt: str, trigger_word: str) -> str:
    """What a row of the film shows."""
    if not trigger_word:
        return "prompt"
    if not has_word(prompt, trigger_word):
        return "without it"
    return "another scene" if index > 1 else "with the trigger word"


def loss(now: Condition) -> str:
    drawing = loss_plot.loss(now.curve, now.total, now.held_back)
    if not drawing:
        return ""
    lowest = min(now.held_back, key=lambda event: event["loss"]) if now.held_back else None
    return render("run_view", "loss", drawing, column(lowest["step"]) if lowest else "")


def more(run: Run, now: Condition) -> str:
    """What can be done with this run apart from stopping and trying it."""
    half = max(1, now.total // 2) if now.state == "finished" else 0
    # A slowing scheduler rises again when a run goes on after its end.
    fades = schedules.rate_factor(run.config.training, 1.0) == 0
    return render("run_view", "more", [each["title"] for each in now.retries], half, fades, bool(run.adapters()))
