"""The first page: the same picture by the base model and with a stack of LoRAs, side by side."""

from dataclasses import dataclass

import gradio as gr

from studio.ui.components import generation
from studio.ui.studio import QUIET, Studio
from studio.ui.tabs.generate_bench import build_bench
from studio.ui.tabs.generate_draw import build_drawing
from studio.ui.tabs.generate_restore import wire_adding, wire_restoring
from studio.ui.tabs.generate_rows import wire_base, wire_rows, wire_words

TITLE = "Generate"


@dataclass(frozen=True)
class Generate:
    """What the frame keeps fresh: the strip of pictures and the list of LoRAs that can be added."""

    strip: gr.HTML
    choices: gr.Dropdown
    base: gr.Dropdown
    draw: dict
    """The drawing event: what `load` runs where no first picture ships."""


def build(studio: Studio, rooms: gr.Tabs, wanted: gr.State) -> Generate:
    """Lay the tab out and wire it. `wanted` holds the LoRA that anyone wishes into the stack."""
    bench = build_bench(studio, generation.first_recipe(), wanted)
    drawing = build_drawing(studio, bench)
    wire_rows(studio, bench, drawing.redraw)
    wire_words(bench)
    wire_restoring(studio, bench, drawing.redraw)
    wire_adding(studio, bench, wanted, drawing.redraw)
    wire_base(studio, bench)
    bench.own.click(lambda: gr.Tabs(selected="dataset"), None, rooms, **QUIET)
    return Generate(bench.strip, bench.choices, bench.drawer.base, drawing.asked)
