"""Comparison of runs: the settings that differ, their losses in one plot, and samples at the same step."""

from collections.abc import Sequence

from studio.datasets.trigger_words import fill_placeholder
from studio.jobs.queue import Job
from studio.runs.comparison import find_differences, prompts_in_common, steps_in_common
from studio.runs.run import Run
from studio.ui import files
from studio.ui.components import loss_plot, run_card
from studio.ui.components.html import small
from studio.ui.components.run_state import condition, step_label
from studio.ui.components.sample_table import SampleImage, SampleRow
from studio.ui.components.templates import render

LAST = "last"
"""In place of a step: the newest samples of each run, at whatever step."""


def cards(runs: Sequence[Run], jobs: dict[str, Job]) -> str:
    return render("compare_view", "cards", [run_card.make(run, condition(run, jobs.get(run.id))) for run in runs])


def table(runs: Sequence[Run]) -> str:
    differences = find_differences(runs)
    if not differences:
        return small("All settings and images are the same.")
    return render("compare_view", "table", [run.title for run in runs], differences)


def curves(runs: Sequence[Run]) -> str:
    lines = [loss_plot.Line(run.title, run.curve(), run.curve("validation")) for run in runs]
    plot = loss_plot.overlaid(lines)
    if not plot:
        return small("No run has enough steps yet to plot its loss.")
    return render("compare_view", "curves", plot, [line.title for line in lines], any(line.validation for line in lines))


def steps(runs: Sequence[Run]) -> list[tuple[str, int | str]]:
    """(label, step) of what can be shown, best first: the last trained step in common, or the newest of each run where there is none."""
    common: list[tuple[str, int | str]] = [(step_label(step), step) for step in reversed(steps_in_common(runs))]
    newest = [max(run.samples(), default=0) for run in runs]
    newest_of_each: list[tuple[str, int | str]] = [("the newest of each", LAST)] if len(set(newest)) > 1 else []
    # The base alone shows nothing that was trained.
    return newest_of_each + common if _shares_no_step(runs) else common + newest_of_each


def _shares_no_step(runs: Sequence[Run]) -> bool:
    """Whether no trained step has samples of every run."""
    return not any(steps_in_common(runs))


def samples(runs: Sequence[Run], step: int | str | None) -> str:
    """A row per prompt in common, a column per run."""
    prompts = prompts_in_common(runs)
    generated = [run.samples() for run in runs]
    if step is None or not any(generated):
        return small("These runs have no step in common yet at which all of them generated samples.")
    if not prompts:
        return small("These runs have no sample prompt in common, so no two images can be compared.")
    shown_steps = [max(each, default=None) if step == LAST else int(step) for each in generated]
    trigger_words = {run.config.dataset.trigger_word for run in runs}
    word = trigger_words.pop() if len(trigger_words) == 1 else "(trigger word)"
    rows = []
    for prompt, indices in prompts:
        text = fill_placeholder(prompt, word)
        columns = zip(runs, shown_steps, generated, indices)
        images = [
            SampleImage(files.url("sample", run.id, at, index), f"{text}, run {number}, {step_label(at)}")
            if at is not None and index < len(found.get(at, []))
            else None
            for number, (run, at, found, index) in enumerate(columns, 1)
        ]
        rows.append(SampleRow(text, images))
    labels = ["no samples yet" if at is None else step_label(at) for at in shown_steps] if step == LAST else []
    return render("compare_view", "samples", _no_common_step(runs, labels), _seeds(runs), [run.title for run in runs], labels, rows)


def _no_common_step(runs: Sequence[Run], labels: Sequence[str]) -> str:
    if not labels or not _shares_no_step(runs):
        return ""
    listed = ", ".join(f"{number}: {label}" for number, label in enumerate(labels, 1))
    return f"These runs have no step in common, so the newest samples of each are shown ({listed}). A run with more steps has learned longer."


def _seeds(runs: Sequence[Run]) -> str:
    seeds = [run.config.samples.seed for run in runs]
    if len(set(seeds)) == 1:
        return f"All use the seed {seeds[0]}."
    listed = ", ".join(f"{number}: {seed}" for number, seed in enumerate(seeds, 1))
    return f"The seeds differ ({listed}), so the images also differ by chance."
