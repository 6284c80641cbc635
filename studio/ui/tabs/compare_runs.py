"""Comparison of two to six runs, shown in place of the run under Watch."""

import gradio as gr

from studio.core.errors import StudioError
from studio.runs import comparison
from studio.runs.run import Run
from studio.ui.components import compare_view, run_state
from studio.ui.components.html import heading, html, notice
from studio.ui.components.templates import render
from studio.ui.studio import QUIET, Studio


def build_compare(studio: Studio, workbench: gr.Column, listing: gr.HTML, picked: gr.State) -> None:
    """`listing` opens it by its event `compare`; it takes the place of `workbench`."""
    with gr.Column(elem_classes="pane", elem_id="compare", visible=False) as comparison_column:
        with gr.Row(elem_classes="toolbar"):
            html(render("train", "comparison_title"))
            back = gr.Button("Back to the runs", size="md", min_width=140, scale=0, elem_id="compare-back")
        message = html("")
        cards = html("", elem_id="compare-cards")
        html(heading("Settings that differ"))
        table = html("", elem_id="compare-settings")
        html(heading("Loss, smoothed"))
        curves = html("", elem_id="compare-loss")
        html(heading("Samples"))
        with gr.Row(elem_classes="toolbar"):
            step = gr.Dropdown([], label="Step", elem_id="compare-step", filterable=False, scale=0, min_width=220)
        samples = html("", elem_id="compare-samples")

    def existing(ids: list[str], request: gr.Request) -> list[Run]:
        """The runs with these ids that still exist."""
        workspace = studio.workspace(request)
        known = {run.id for run in Run.all(workspace)}
        return comparison.select_runs(workspace, [each for each in ids if each in known])

    def compare(ids: list[str], request: gr.Request) -> tuple:
        shown = gr.update(visible=False), gr.update(visible=True)
        try:
            runs = existing(ids, request)
        except StudioError as error:
            return *shown, notice(str(error), "bad"), "", "", "", gr.update(choices=[], value=None), ""
        steps = compare_view.steps(runs)
        first = steps[0][1] if steps else None
        return (
            *shown,
            "",
            compare_view.cards(runs, run_state.newest_jobs(studio, studio.owner(request))),
            compare_view.table(runs),
            compare_view.curves(runs),
            gr.update(choices=steps, value=first, visible=len(steps) > 1),
            compare_view.samples(runs, first),
        )

    def choose_step(ids: list[str], step: int | str, request: gr.Request) -> str:
        try:
            return compare_view.samples(existing(ids, request), step)
        except StudioError as error:
            return notice(str(error), "bad")

    listing.compare(compare, picked, [workbench, comparison_column, message, cards, table, curves, step, samples], **QUIET)
    step.input(choose_step, [picked, step], samples, **QUIET)
    back.click(lambda: (gr.update(visible=True), gr.update(visible=False)), None, [workbench, comparison_column], **QUIET)
