"""The components of the Generate tab, laid out: prompt, LoRAs, the two pictures, settings, what was drawn before."""

from dataclasses import dataclass

import gradio as gr

from studio.config.recipe import Recipe
from studio.ui.components import generation, lora_list
from studio.ui.components.html import html, panel
from studio.ui.components.templates import render
from studio.ui.studio import Studio
from studio.ui.tabs.generate_base import BaseSettings, build_base, limits
from studio.ui.tabs.generate_stack import build_adding

SEED_HELP = "The number all chance comes from: the same seed and words give the same picture."
RESTORE = "Restore settings from a picture"


@dataclass(frozen=True)
class Bench:
    """Everything that handlers read or fill; `rows` is the list of LoRAs as plain data."""

    rows: gr.State
    prompt: gr.Textbox
    go: gr.Button
    words: gr.HTML
    said: gr.HTML
    """What restoring a picture or adding a LoRA has to say."""
    news: gr.HTML
    """What drawing has to say."""
    stack: gr.HTML
    undo: gr.Button
    choices: gr.Dropdown
    own: gr.Button
    base_plate: gr.HTML
    stack_plate: gr.HTML
    seed: gr.Number
    dice: gr.Button
    count: gr.Slider
    drawer: BaseSettings
    strip: gr.HTML
    restore: gr.UploadButton

    @property
    def listed(self) -> list:
        """What shows the rows."""
        return [self.rows, self.stack, self.words]

    @property
    def form(self) -> list:
        """What a recipe is made of, besides the rows."""
        by = self.drawer
        return [self.prompt, by.negative, by.base, by.revision, self.seed, by.shape, by.steps, by.guidance, self.count]


def build_bench(studio: Studio, first: Recipe, wanted: gr.State) -> Bench:
    """`first` is the recipe that the page opens with."""
    first_rows = lora_list.starter_rows({entry.adapter: entry.weight for entry in first.stack})
    html(render("generate", "head"))
    prompt, go = _prompt(first)
    words = panel(lora_list.chips(first_rows, first.prompt), ("insert",), elem_id="words")
    with gr.Column(elem_id="said"):
        said, news = html(), html()
    with gr.Row(elem_classes="bench"):
        with gr.Column(scale=5, min_width=320):
            with gr.Column(elem_classes="pane"):
                html(render("generate", "list_head"))
                stack = panel(lora_list.show(first_rows), ("toggle", "weigh", "drop", "switch"), elem_id="stack")
                undo = gr.Button("Undo", size="sm", visible=False)
                choices = build_adding(studio, wanted)
            own = gr.Button("Make your own", variant="secondary", elem_id="make-your-own")
        with gr.Column(scale=9, min_width=320, elem_classes="first-on-phone"):
            base_plate, stack_plate = _plates()
            with gr.Accordion("More settings", open=False, elem_classes="fold"):
                with gr.Row():
                    seed, dice, count = _chance(first)
                drawer = build_base(studio, first)
            strip = panel("", ("pick",), elem_id="history")
            restore = gr.UploadButton(RESTORE, file_types=[".png"], size="sm", scale=0, min_width=230, elem_id="restore", type="binary")
    above = (gr.State(first_rows), prompt, go, words, said, news)
    return Bench(*above, stack, undo, choices, own, base_plate, stack_plate, seed, dice, count, drawer, strip, restore)


def _prompt(first: Recipe) -> tuple[gr.Textbox, gr.Button]:
    with gr.Row(elem_classes="promptline"):
        prompt = gr.Textbox(
            first.prompt,
            label="Prompt",
            show_label=False,
            placeholder="What should the picture show?",
            lines=1,
            max_lines=4,
            elem_id="prompt",
            elem_classes="prompt",
            scale=8,
            submit_btn=False,
        )
        go = gr.Button("Draw", variant="primary", size="lg", scale=1, min_width=132)
    return prompt, go


def _plates() -> tuple[gr.HTML, gr.HTML]:
    base_html, stack_html = generation.first_plates()
    with gr.Row(elem_classes="stage"):
        return html(base_html, elem_id="base-plate"), html(stack_html, elem_id="stack-plate")


def _chance(first: Recipe) -> tuple[gr.Number, gr.Button, gr.Slider]:
    least, most = limits("seed")
    seed = gr.Number(first.seed, label="Seed", info=SEED_HELP, precision=0, minimum=least, maximum=most)
    dice = gr.Button("\u2684 New seed", size="sm", min_width=90, scale=0, elem_classes="dice")
    return seed, dice, gr.Slider(1, 4, 1, step=1, label="Pictures", info="Each with the next seed.")
