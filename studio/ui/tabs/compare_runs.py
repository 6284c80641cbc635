"""Two to six runs beside each other, in place of the form and the single run; and the way back."""

import gradio as gr

from studio.core.errors import StudioError
from studio.runs import comparison
from studio.runs.run import Run
from studio.ui.components import compare_view
from studio.ui.components.html import heading, html, notice
from studio.ui.components.templates import render
from studio.ui.studio import QUIET, Studio


def build_compare(studio: Studio, bench: gr.Row, listing: gr.HTML, picked: gr.State) -> None:
    """`listing` asks for it by its event `compare`; `bench` is what it takes the place of."""
    with gr.Column(elem_classes="pane", elem_id="compare", visible=False) as beside:
        with gr.Row(elem_classes="toolbar"):
            html(render("train", "comparing"))
            back = gr.Button("Back to the runs", size="md", min_width=140, scale=0, elem_id="compare-back")
        trouble = html("")
        html(heading("What differs"))
        table = html("", elem_id="compare-settings")
        html(heading("How wrong they are (loss, smoothed)"))
        curves = html("", elem_id="compare-loss")
        html(heading("Samples"))
        with gr.Row(elem_classes="toolbar"):
            step = gr.Dropdown([], label="After how much learning", elem_id="compare-step", filterable=False, scale=0, min_width=220)
        samples = html("", elem_id="compare-samples")

    def chosen(ids: list[str], request: gr.Request) -> list[Run]:
        """Those of them that are still there."""
        workspace = studio.workspace(request)
        there = {run.id for run in Run.all(workspace)}
        return comparison.select_runs(workspace, [each for each in ids if each in there])

    def compare(ids: list[str], request: gr.Request):
        shown = gr.update(visible=False), gr.update(visible=True)
        try:
            runs = chosen(ids, request)
        except StudioError as error:
            return *shown, notice(str(error), "bad"), "", "", gr.update(choices=[], value=None), ""
        steps = compare_view.steps(runs)
        first = steps[0][1] if steps else None
        return (
            *shown,
            "",
            compare_view.table(runs),
            compare_view.curves(runs),
            gr.update(choices=steps, value=first, visible=len(steps) > 1),
            compare_view.samples(runs, first),
        )

    def take_step(ids: list[str], step: int | str, request: gr.Request):
        try:
            return compare_view.samples(chosen(ids, request), step)
        except StudioError as error:
            return notice(str(error), "bad")

    listing.compare(compare, picked, [bench, beside, trouble, table, curves, step, samples], **QUIET)
    step.input(take_step, [picked, step], samples, **QUIET)
    back.click(lambda: (gr.update(visible=True), gr.update(visible=False)), None, [bench, beside], **QUIET)
