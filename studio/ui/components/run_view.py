"""View of one training run: name, state, LoRA file, sample grid, loss, log and actions."""

import contextlib
from collections.abc import Collection
from dataclasses import dataclass
from pathlib import Path

from studio.config import optimizers, schedules
from studio.config.recipe import Recipe, StackEntry
from studio.config.runtime import EXECUTIONS
from studio.core import platform
from studio.core.wording import counted
from studio.datasets.trigger_words import fill_placeholder, has_word
from studio.families import bases
from studio.jobs.queue import Job
from studio.runs.run import Run
from studio.ui import files
from studio.ui.components import loss_plot, run_card
from studio.ui.components.html import duration, share, size
from studio.ui.components.run_state import BUSY, WORDS, Condition, step_label
from studio.ui.components.sample_table import SampleImage, SampleRow
from studio.ui.components.templates import render

MAX_COLUMNS = 12
LOG_BYTES, LOG_LINES = 16_000, 40
"""Of the end of the log that is shown."""


@dataclass(frozen=True)
class Download:
    """A LoRA file: address, size as text."""

    url: str
    size: str


@dataclass(frozen=True)
class Column:
    """A checkpoint in the sample grid."""

    number: int
    label: str
    file: Download | None
    starred: bool


def title(run: Run, now: Condition) -> str:
    """Star and name, which is edited in place."""
    return render("run_card", "title", run_card.make(run, now))


def head(run: Run, now: Condition) -> str:
    """State, progress and facts."""
    words = now.job.message if now.state == "running" and not now.curve and now.job and now.job.message else WORDS[now.state]
    progress = share(now.step, now.total) if now.state in (*BUSY, "stopped", "interrupted") else None
    error = now.message or ("Training failed without an error message. Press Resume to continue it." if now.state == "failed" else "")
    facts = [*(_result(run, now) if now.state == "finished" else _progress(now)), *_found_rate(run, now)]
    extended = schedules.describe_extensions(run.config.training)
    about = run_card.make(run, now).facts
    return render("run_view", "head", about, now.state, words, progress, facts, extended, now.notes, error)


def file(run: Run, local: bool, message: str = "") -> str:
    """Download of the newest LoRA. `local`: the page is on the studio's computer, so its folder can be opened and its path is shown."""
    saved = downloads(run)
    if not saved:
        return ""
    newest = max(saved)
    path = str(run.adapter_at(newest)) if local else ""
    return render("run_view", "file", saved[newest], step_label(newest), path, platform.has_file_manager(), message)


def recipe_now(run: Run) -> Recipe:
    """The sample with the trigger word, generated with the LoRA as it is now."""
    config = run.config
    samples = config.samples
    return Recipe(
        prompt=fill_placeholder(samples.prompts[run_card.main_row(config)], config.dataset.trigger_word) if samples.prompts else "",
        family=config.model.family,
        base_model=config.model.base_model,
        revision=config.model.revision,
        stack=[StackEntry(adapter=f"run:{run.id}", weight=1.0, title=run.title)],
        seed=samples.seed,
        num_inference_steps=samples.num_inference_steps,
        guidance_scale=samples.guidance_scale,
        width=samples.resolution,
        height=samples.resolution,
    )


def sample_now(run: Run, job: Job) -> str:
    """An image of the training at its current step: how far it is, or the image."""
    images = [files.url("image", each) for each in job.result.get("images", [])] if job.state == "done" else []
    if images:
        return render("run_view", "sample_now", images[0], recipe_now(run).prompt)
    message = job.error or (job.message if job.unfinished and job.message else "Waits for the next step of the training.")
    return render("parts", "notice", message, "" if job.unfinished else "warn")


def downloads(run: Run) -> dict[int, Download]:
    """Step -> its LoRA file."""
    found = {}
    for step, path in run.adapters():
        # The training process deletes those that it saved for images only.
        with contextlib.suppress(FileNotFoundError):
            found[step] = Download(files.url("adapter", run.id, step), size(path.stat().st_size))
    return found


def log(file: Path) -> str:
    """The last lines of a run's log."""
    if not file.exists():
        return ""
    with open(file, "rb") as opened:
        opened.seek(max(0, file.stat().st_size - LOG_BYTES))
        lines = opened.read().decode(errors="replace").splitlines()[-LOG_LINES:]
    return render("run_view", "log", "\n".join(lines))


def _progress(now: Condition) -> list[str]:
    facts = [f"step {now.step:,} of {now.total:,}"]
    if now.curve and (pace := now.curve[-1].get("seconds_per_step")):
        facts.append(f"{pace:.2f} s per step")
    if now.state == "running" and now.job and now.job.seconds_left is not None:
        facts.append(f"{duration(now.job.seconds_left)} left")
    if now.preflight and now.state in BUSY:
        facts.append(f"{now.preflight['peak_mb'] / 1000:.1f} GB of memory")
        facts.append(f"up to {size(now.preflight['disk_mb'] * 1e6)} on disk")
    if now.execution in EXECUTIONS and now.execution != "eager":
        facts.append(EXECUTIONS[now.execution])
    if now.job and now.job.cancel_requested and now.job.unfinished:
        facts.append("saving, then stopping")
    return facts


def _found_rate(run: Run, now: Condition) -> list[str]:
    """The learning rate that the optimizer has found, where it finds one."""
    newest = now.curve[-1] if now.curve else {}
    rate, found = newest.get("lr"), newest.get("effective_lr")
    if rate is None or found is None:
        return []
    factor = optimizers.get(run.config.training.optimizer).rate_factor
    if not factor:
        return [f"learning rate {found:.2g}, the mean of all layers"]
    # A schedule may end at zero.
    return [f"learning rate {rate:.3g} x {factor} {found / rate:.2g}" if rate else "learning rate 0"]


def _result(run: Run, now: Condition) -> list[str]:
    time = f" in {duration(now.job.seconds)}" if now.job and now.job.seconds and now.uninterrupted else ""
    latest = run.latest_adapter()
    return [f"{counted(now.total, 'step')}{time}", *([f"file size {size(latest.stat().st_size)}"] if latest else [])]


def sample_grid(run: Run, now: Condition) -> str:
    """A row per prompt, a column per checkpoint from the base on, all with the same seed."""
    samples = run.samples()
    if not samples:
        if now.state not in BUSY:
            return ""
        return render("run_view", "samples_pending", "once training has started" if now.state == "waiting" else "in a moment")
    config, marks, saved = run.config, run.marks, downloads(run)
    steps = shown_steps(list(samples), marks.starred_steps)
    columns = [Column(step, step_label(step), saved.get(step), step in marks.starred_steps) for step in steps]
    word = config.dataset.trigger_word
    rows = []
    for index, template in enumerate(config.samples.prompts):
        prompt = fill_placeholder(template, word)
        images = [
            SampleImage(files.url("sample", run.id, step, index), f"{prompt}, {step_label(step)}") if index < len(samples[step]) else None
            for step in steps
        ]
        rows.append(SampleRow(prompt, images, _kind(index, prompt, word)))
    advice = "use the one that looks best" if len(steps) > 1 else "this is the base before training; more follow"
    main = rows[min(run_card.main_row(config), len(rows) - 1)] if rows else None
    newest = next((image for image in reversed(main.images) if image), None) if main else None
    return render("run_view", "sample_grid", run.id, columns, rows, advice, newest)


def shown_steps(steps: list[int], starred: Collection[int] = ()) -> list[int]:
    """Columns of the sample grid: all of them, or MAX_COLUMNS with the base, the newest, starred ones, and others at even distances."""
    if len(steps) <= MAX_COLUMNS:
        return steps
    chosen = {steps[0], steps[-1], *[step for step in steps if step in starred][-MAX_COLUMNS // 2 :]}
    even = [steps[round(position * (len(steps) - 1) / (MAX_COLUMNS - 1))] for position in range(MAX_COLUMNS)]
    chosen.update([step for step in even if step not in chosen][: MAX_COLUMNS - len(chosen)])
    return sorted(chosen)


def _kind(index: int, prompt: str, trigger_word: str) -> str:
    """What a row of the sample grid shows."""
    if not trigger_word:
        return "prompt"
    if not has_word(prompt, trigger_word):
        return "without it"
    return "another scene" if index > 1 else "with the trigger word"


def loss(now: Condition) -> str:
    plot = loss_plot.loss(now.curve, now.total, now.validation)
    if not plot:
        return ""
    lowest = min(now.validation, key=lambda event: event["loss"]) if now.validation else None
    return render("run_view", "loss", plot, step_label(lowest["step"]) if lowest else "")


def help_first(run: Run, now: Condition) -> str:
    """Buttons for what helps after a failure: another base, or retries with other settings."""
    retries, lacking = [each["title"] for each in now.retries], lacks_base(run, now)
    return render("run_view", "help", lacking, retries) if retries or lacking else ""


def actions(run: Run, now: Condition) -> str:
    """Buttons besides Stop and Try: extend, reuse the settings, start from the LoRA, resume automatically."""
    extra_steps = max(1, now.total // 2) if now.state == "finished" else 0
    resumes = None if now.state == "finished" else run.marks.resumes
    return render("run_view", "actions", extra_steps, _last_rate(run), bool(run.adapters()), resumes)


def lacks_base(run: Run, now: Condition) -> bool:
    """Whether the run failed because its base is not on this computer and could not be downloaded: a resume alone would fail again."""
    model = run.config.model
    return now.state == "failed" and not now.step and not bases.get_base(model.base_model, model.revision).is_local


def _last_rate(run: Run) -> dict:
    """The learning rate at the end of a run, for the choice of how to extend it."""
    training = run.config.training
    last = schedules.last_rate(training)
    return {
        "text": f"{last:.2g}",
        "share": f"{100 * last / training.learning_rate:.1g}%",
        "full": f"{training.learning_rate:g}",
        "scheduler": training.lr_scheduler,
        # A constant rate gives the same steps either way.
        "differs": last != training.learning_rate,
        "suggested": schedules.suggested_extension(training),
    }
