"""How a training run looks: its state in words, the film of samples, the loss, and the list of all runs."""

from dataclasses import dataclass

from studio.jobs import Job
from studio.runs import Run
from studio.ui import files, plot
from studio.ui.html import bar, duration, notice, text
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
WIDEST_FILM = 12
SEPARATOR = " \u00b7 "


@dataclass(frozen=True)
class Condition:
    """What is true of a run right now, from its own events and its newest job."""

    state: str
    job: Job | None
    curve: list[dict]
    total: int
    message: str

    @property
    def step(self) -> int:
        return self.curve[-1]["step"] if self.curve else 0

    @property
    def can_resume(self) -> bool:
        return self.state in ("stopped", "interrupted", "failed")


def condition(studio: Studio, owner: str, run: Run) -> Condition:
    job = next((j for j in studio.jobs.list(owner, kinds=("train",), limit=200) if j.payload.get("run") == run.id), None)
    said = run.state
    if job and job.unfinished:
        state = "waiting" if job.state == "waiting" else "paused" if said == "paused" else "running"
    elif said in ("finished", "stopped", "failed"):
        state = said
    elif job and job.state == "failed":
        state = "failed"
    else:
        state = "interrupted"
    message = job.error if job and not job.unfinished else ""
    if state == "failed":
        message = next((e["message"] for e in reversed(run.events()[0]) if e["kind"] == "failed"), message)
    return Condition(state, job, run.curve(), run.config.training.max_train_steps, message)


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
    wrong = notice(now.message or "Training ended without saying why; press Resume.", "bad") if now.state == "failed" else ""
    return (
        f'<div class="runhead"><h3>{text(run.title)}</h3><span class="state {now.state}">{text(words)}</span></div>'
        f'{progress}<div class="facts">{text(SEPARATOR.join(facts))}</div>{wrong}'
    )


def film(run: Run, now: Condition) -> str:
    """A row per prompt, a column per checkpoint from the base on, all from the same seed."""
    samples = run.samples()
    if not samples:
        return (
            ""
            if now.state not in ("waiting", "running", "paused")
            else '<div class="small">The first pictures appear here in a moment: one row a prompt, one column a checkpoint.</div>'
        )
    steps = list(samples)
    if len(steps) > WIDEST_FILM:
        steps = [steps[0], *steps[-WIDEST_FILM + 1 :]]
    saved = {step for step, _ in run.adapters()}
    heads = "".join(
        f'<th scope="col">{column(step)}'
        + (f'<button class="tool use" data-click="use" data-ref="run:{text(run.id)}@{step}">Use</button>' if step in saved else "")
        + "</th>"
        for step in steps
    )
    rows = ""
    config = run.config
    word = config.dataset.trigger_word.lower()
    for index, written in enumerate(config.samples.prompts):
        prompt = " ".join(written.replace("[trigger]", word).split())
        cells = "".join(
            f'<td><img src="{files.url("sample", run.id, step, index)}" alt="{text(prompt)}, {column(step)}" loading="lazy"></td>'
            if index < len(samples[step])
            else "<td></td>"
            for step in steps
        )
        kind = "with the trigger word" if word in prompt.lower().split() else "without it"
        kind = "another scene" if index > 1 and kind != "without it" else kind
        rows += (
            f'<tr><th scope="row" colspan="{len(steps)}"><b>{kind if word else "prompt"}</b> <span>{text(prompt)}</span></th></tr><tr>{cells}</tr>'
        )
    return f'<div class="film" tabindex="0" aria-label="Film of samples"><table><thead><tr>{heads}</tr></thead><tbody>{rows}</tbody></table></div>'


def column(step: int) -> str:
    return f"step {step:,}" if step else "base"


def loss(now: Condition) -> str:
    drawing = plot.loss(now.curve, now.total)
    if not drawing:
        return ""
    explained = "Loss: how wrong the guesses still are. It should fall, then waver; judge by the pictures."
    return f'<div class="lossbox"><h3 class="part">Loss</h3>{drawing}<div class="small">{explained}</div></div>'


def listing(studio: Studio, owner: str, runs: list[Run], open_id: str | None) -> str:
    """Every run: open it, or take it away (with undo)."""
    items = ""
    for run in runs:
        now = condition(studio, owner, run)
        left = f"{WORDS[now.state]}, step {now.step:,} of {now.total:,}" if now.state != "finished" else f"Finished, {now.total:,} steps"
        samples = run.samples()
        picture = f'<img class="thumb" src="{files.url("sample", run.id, max(samples), 0)}" alt="">' if samples else '<span class="thumb"></span>'
        current = 'aria-current="true"' if run.id == open_id else ""
        items += (
            f'<li {current}><button class="open" data-click="open" data-run="{text(run.id)}">{picture}'
            f"<span><b>{text(run.title)}</b><small>{text(left)}</small></span></button>"
            f'<button class="x" data-click="remove" data-run="{text(run.id)}" title="Remove" '
            f'aria-label="Remove {text(run.title)}">&times;</button></li>'
        )
    return f'<h3 class="part">All runs</h3><ul class="runs">{items}</ul>' if items else ""


def size(bytes_: int) -> str:
    return f"{bytes_ / 1e6:.1f} MB" if bytes_ >= 1e6 else f"{bytes_ / 1e3:.0f} kB"
