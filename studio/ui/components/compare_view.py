"""How runs look beside each other: the settings that differ, their losses in one drawing, and samples at the same step."""

from collections.abc import Sequence

from studio.datasets.trigger_words import fill_placeholder
from studio.runs.comparison import find_differences, prompts_in_common, steps_in_common
from studio.runs.run import Run
from studio.ui import files
from studio.ui.components import loss_plot
from studio.ui.components.html import text
from studio.ui.components.run_view import KEY, column

LAST = "last"
"""Instead of a step: the last samples of each run, wherever that is."""


def mark(number: int, title: str) -> str:
    """A run's number and colour, the same in all three parts; the number alone tells as much."""
    return f'<i class="mark c{number}">{number}</i> {text(title)}'


def table(runs: Sequence[Run]) -> str:
    found = find_differences(runs)
    if not found:
        return '<div class="small">All settings and pictures are the same.</div>'
    heads = "".join(f'<th scope="col">{mark(number, run.title)}</th>' for number, run in enumerate(runs, 1))
    rows = "".join(
        f'<tr><th scope="row">{text(each.title)}<small>{text(each.path)}</small></th>'
        f"{''.join(f'<td>{text(value)}</td>' for value in each.values)}</tr>"
        for each in found
    )
    opening = '<div class="beside" tabindex="0" aria-label="Settings that differ"><table class="differ">'
    return f"{opening}<thead><tr><td></td>{heads}</tr></thead><tbody>{rows}</tbody></table></div>"


def curves(runs: Sequence[Run]) -> str:
    lines = [loss_plot.Line(run.title, run.curve(), run.curve("validation")) for run in runs]
    drawing = loss_plot.overlaid(lines)
    if not drawing:
        return '<div class="small">None of them has learnt enough yet to draw its loss.</div>'
    legend = "".join(f"<li>{mark(number, line.title)}</li>" for number, line in enumerate(lines, 1))
    words = "A lower line is not always the better LoRA, least of all where pictures or noise settings differ; judge by the pictures."
    held = f"{KEY} Dashed: the pictures held back. " if any(line.held_back for line in lines) else ""
    return f'<div class="lossbox">{drawing}<ul class="legend">{legend}</ul><div class="small">{held}{words}</div></div>'


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
        return '<div class="small">They have no step in common yet at which all of them drew samples.</div>'
    if not prompts:
        return '<div class="small">Their sample prompts are all different, so no two pictures can be compared.</div>'
    heads = "".join(f'<th scope="col">{mark(number, run.title)}</th>' for number, run in enumerate(runs, 1))
    drawn = [run.samples() for run in runs]
    at = [max(each) if step == LAST else step for each in drawn]
    trigger_words = {run.config.dataset.trigger_word for run in runs}
    spoken_as = trigger_words.pop() if len(trigger_words) == 1 else "(trigger word)"
    rows = ""
    for prompt, places in prompts:
        words = text(fill_placeholder(prompt, spoken_as))
        cells = "".join(
            _cell(run, number, at[number - 1], row, words) if row < len(drawn[number - 1].get(at[number - 1], [])) else "<td></td>"
            for number, (run, row) in enumerate(zip(runs, places), 1)
        )
        rows += f'<tr><th scope="row" colspan="{len(runs)}"><span>{words}</span></th></tr><tr>{cells}</tr>'
    opening = f'<div class="film beside" style="--columns:{len(runs)}" tabindex="0" aria-label="Samples beside each other">'
    return f"{_seeds(runs)}{opening}<table><thead><tr>{heads}</tr></thead><tbody>{rows}</tbody></table></div>"


def _cell(run: Run, number: int, step: int, row: int, words: str) -> str:
    address = files.url("sample", run.id, step, row)
    label = f"{words}, run {number}, {column(step)}"
    return f'<td><a href="{address}" target="_blank" title="Open by itself"><img src="{address}" alt="{label}" loading="lazy"></a></td>'


def _seeds(runs: Sequence[Run]) -> str:
    seeds = [run.config.samples.seed for run in runs]
    if len(set(seeds)) == 1:
        return f'<div class="small">All from the seed {seeds[0]}.</div>'
    said = ", ".join(f"{number}: {seed}" for number, seed in enumerate(seeds, 1))
    return f'<div class="small">Their seeds differ ({said}), so the pictures differ by chance as well.</div>'
