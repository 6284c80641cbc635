"""Card of a run: cover image, name, state, base, trigger word, date and star. The same card wherever runs and their LoRAs are listed."""

import time
from dataclasses import dataclass

from studio import families
from studio.config import TrainConfig
from studio.core.wording import counted
from studio.datasets.trigger_words import fill_placeholder, has_word
from studio.runs.run import Run
from studio.ui import files
from studio.ui.components.run_state import WORDS, Condition
from studio.ui.components.templates import render


@dataclass(frozen=True)
class RunCard:
    """What the template shows of a run."""

    id: str
    title: str
    state: str
    words: str
    image: str
    """Address of the cover image, or empty."""
    facts: tuple[str, ...]
    """Base, trigger word, date."""
    starred: bool


def make(run: Run, now: Condition) -> RunCard:
    config, marks = run.config, run.marks
    facts = (base_title(config), config.dataset.trigger_word, format_date(run.snapshot["created"]))
    return RunCard(run.id, run.title, now.state, state_text(now), cover(run, config), tuple(fact for fact in facts if fact), marks.starred)


def show(run: Run, now: Condition) -> str:
    """The card alone, without buttons."""
    return render("run_card", "card", make(run, now))


def state_text(now: Condition) -> str:
    """State with its steps, for lists."""
    if now.state == "running" and not now.step and now.job and now.job.message:
        return now.job.message
    if now.state in ("created", "finished"):
        return f"{WORDS[now.state]}, {counted(now.total, 'step')}"
    return f"{WORDS[now.state]}, step {now.step:,} of {now.total:,}"


def cover(run: Run, config: TrainConfig | None = None) -> str:
    """Address of the newest sample of a prompt with the trigger word, or of any prompt; empty without samples."""
    samples = run.samples()
    if not samples:
        return ""
    newest = max(samples)
    return files.url("sample", run.id, newest, min(main_row(config or run.config), len(samples[newest]) - 1))


def main_row(config: TrainConfig) -> int:
    """Row of the sample grid that shows the LoRA best: the first prompt with the trigger word."""
    word = config.dataset.trigger_word
    prompts = [fill_placeholder(prompt, word) for prompt in config.samples.prompts]
    return next((index for index, prompt in enumerate(prompts) if word and has_word(prompt, word)), 0)


def base_title(config: TrainConfig) -> str:
    """Short name of the base model. No folder is opened, so that long lists stay quick, and no path is shown."""
    name = config.model.base_model
    offer = families.offer(name)
    return offer.name if offer else name.replace("\\", "/").rstrip("/").rpartition("/")[2]


def format_date(seconds: float) -> str:
    date, now = time.localtime(seconds), time.localtime()
    year = "" if date.tm_year == now.tm_year else f" {date.tm_year}"
    return f"{date.tm_mday} {time.strftime('%b', date)}{year}"
