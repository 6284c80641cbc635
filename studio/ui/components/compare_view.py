"""Comparison of runs: the settings that differ, their losses in one plot, and samples at the same step."""

from collections.abc import Sequence

from studio.datasets.trigger_words import fill_placeholder
from studio.runs.comparison import find_differences, prompts_in_common, steps_in_common
from studio.runs.run import Run
from studio.ui import files
from studio.ui.components import loss_plot
from studio.ui.components.html import small
from studio.ui.components.run_state import step_label
from studio.ui.components.sample_table import SampleImage, SampleRow
from studio.ui.components.templates import render

LAST = "last"
"""In place of a step: the last samples of each run, at whatever step."""


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
    """(label, step) of what can be shown, best first: the last step in common, and the last of each run where these differ."""
    common: list[tuple[str, int | str]] = [(step_label(step), step) for step in reversed(steps_in_common(runs))]
    lasts = [max(run.samples(), default=0) for run in runs]
    last_of_each: list[tuple[str, int | str]] = [("the last of each", LAST)] if len(set(lasts)) > 1 and all(lasts) else []
    # The base alone shows nothing that was trained.
    return last_of_each + common if common in ([], [(step_label(0), 0)]) else common + last_of_each


def samples(runs: Sequence[Run], step: int | str | None) -> str:
    """A row per prompt in common, a column per run."""
    prompts = prompts_in_common(runs)
    if step is None:
        return small("These runs have no step in common yet at which all of them generated samples.")
    if not prompts:
        return small("These runs have no sample prompt in common, so no two images can be compared.")
    generated = [run.samples() for run in runs]
    shown_steps = [max(each) if step == LAST else int(step) for each in generated]
    trigger_words = {run.config.dataset.trigger_word for run in runs}
    word = trigger_words.pop() if len(trigger_words) == 1 else "(trigger word)"
    rows = []
    for prompt, indices in prompts:
        text = fill_placeholder(prompt, word)
        columns = zip(runs, shown_steps, generated, indices)
        images = [
            SampleImage(files.url("sample", run.id, at, index), f"{text}, run {number}, {step_label(at)}") if index < len(found.get(at, [])) else None
            for number, (run, at, found, index) in enumerate(columns, 1)
        ]
        rows.append(SampleRow(text, images))
    return render("compare_view", "samples", _seeds(runs), [run.title for run in runs], rows)


def _seeds(runs: Sequence[Run]) -> str:
    seeds = [run.config.samples.seed for run in runs]
    if len(set(seeds)) == 1:
        return f"All use the seed {seeds[0]}."
    listed = ", ".join(f"{number}: {seed}" for number, seed in enumerate(seeds, 1))
    return f"The seeds differ ({listed}), so the images also differ by chance."
