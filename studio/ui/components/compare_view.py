"""How runs look beside each other: the settings that differ, their losses in one drawing, and samples at the same step."""

from collections.abc import Sequence
from dataclasses import dataclass

from studio.datasets.trigger_words import fill_placeholder
from studio.runs.comparison import find_differences, prompts_in_common, steps_in_common
from studio.runs.run import Run
from studio.ui import files
from studio.ui.components import loss_plot
from studio.ui.components.html import small
from studio.ui.components.run_state import column
from studio.ui.components.templates import render

LAST = "last"
"""Instead of a step: the last samples of each run, wherever that is."""


@dataclass(frozen=True)
class Sample:
    """One picture of the table of samples."""

    address: str
    step: str


@dataclass(frozen=True)
class Row:
    """A prompt with the sample of each run, or nothing where a run has none."""

    prompt: str
    samples: list[Sample | None]


def table(runs: Sequence[Run]) -> str:
    found = find_differences(runs)
    if not found:
        return small("All settings and pictures are the same.")
    return render("compare_view", "table", [run.title for run in runs], found)


def curves(runs: Sequence[Run]) -> str:
    lines = [loss_plot.Line(run.title, run.curve(), run.curve("validation")) for run in runs]
    drawing = loss_plot.overlaid(lines)
    if not drawing:
        return small("None of them has learnt enough yet to draw its loss.")
    return render("compare_view", "curves", drawing, [line.title for line in lines], any(line.held_back for line in lines))


def steps(runs: Sequence[Run]) -> list[tuple[str, int | str]]:
    """(words, step) of what can be shown, best first: the furthest step that all have, and the last of each where these differ."""
    common = [(column(step), step) for step in reversed(steps_in_common(runs))]
    lasts = [max(run.samples(), default=0) for run in runs]
    own = [("the last of each", LAST)] if len(set(lasts)) > 1 and all(lasts) else []
    # Only the base in common says nothing about what was learnt.
    return own + common if common in ([], [(column(0), 0)]) else common + own


def samples(runs: Sequence[Run], step: int | str | None) -> str:
    """A row for each prompt that all have, a column for each run."""
    prompts = prompts_in_common(runs)
    if step is None:
        return small("They have no step in common yet at which all of them drew samples.")
    if not prompts:
        return small("Their sample prompts are all different, so no two pictures can be compared.")
    drawn = [run.samples() for run in runs]
    at = [max(each) if step == LAST else step for each in drawn]
    trigger_words = {run.config.dataset.trigger_word for run in runs}
    spoken_as = trigger_words.pop() if len(trigger_words) == 1 else "(trigger word)"
    rows = []
    for prompt, places in prompts:
        found = [_sample(run, step, row) if row < len(there.get(step, [])) else None for run, step, there, row in zip(runs, at, drawn, places)]
        rows.append(Row(fill_placeholder(prompt, spoken_as), found))
    return render("compare_view", "samples", _seeds(runs), [run.title for run in runs], rows)


def _sample(run: Run, step: int, row: int) -> Sample:
    return Sample(files.url("sample", run.id, step, row), column(step))


def _seeds(runs: Sequence[Run]) -> str:
    seeds = [run.config.samples.seed for run in runs]
    if len(set(seeds)) == 1:
        return f"All from the seed {seeds[0]}."
    told = ", ".join(f"{number}: {seed}" for number, seed in enumerate(seeds, 1))
    return f"Their seeds differ ({told}), so the pictures differ by chance as well."
