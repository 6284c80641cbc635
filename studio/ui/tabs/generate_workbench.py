"""The layout of the Generate tab: prompt, LoRAs, the two images, settings, history."""

from dataclasses import dataclass

import gradio as gr

from studio.config.recipe import Recipe
from studio.ui.components import generation, lora_list
from studio.ui.components.html import html, panel
from studio.ui.components.removed import build_removed
from studio.ui.components.templates import render
from studio.ui.form_drafts import DraftedForm
from studio.ui.studio import Studio
from studio.ui.tabs.generate_base import BaseSettings, build_base, limits
from studio.ui.tabs.generate_stack import build_adding

SEED_HELP = "Starting point of the random noise: the same seed and prompt give the same image."
HISTORY_EVENTS = ("pick", "use_prompt", "use_init", "add_to_dataset", "remove_image")
"""Called by static/js/lightbox.js, also for images of other tabs."""
USE_INIT = "Use an init image"
RESTORE = "Restore settings from an image"


@dataclass(frozen=True)
class Workbench:
    """The components that handlers read or fill; `rows` is the list of LoRAs as plain data."""

    head: gr.HTML
    rows: gr.State
    prompt: gr.Textbox
    generate_button: gr.Button
    trigger_words: gr.HTML
    message: gr.HTML
    """Messages of restoring an image or adding a LoRA."""
    generation_message: gr.HTML
    stack: gr.HTML
    undo: gr.Button
    own: gr.HTML
    choices: gr.Dropdown
    removed_loras: gr.HTML
    make_own: gr.Button
    samples: gr.HTML
    """Cards of the sample images, until a person has a LoRA of their own."""
    base_image: gr.HTML
    stack_image: gr.HTML
    seed: gr.Number
    new_seed: gr.Button
    count: gr.Slider
    settings: BaseSettings
    init: gr.State
    """The InitChoice, or None."""
    init_panel: gr.HTML
    init_upload: gr.UploadButton
    strip: gr.HTML
    removed: gr.HTML
    restore: gr.UploadButton

    @property
    def listed(self) -> list[gr.components.Component]:
        """The components that show the rows."""
        return [self.rows, self.stack, self.trigger_words]

    @property
    def chosen_init(self) -> list[gr.components.Component]:
        """The components that show the init image."""
        return [self.init, self.init_panel]

    @property
    def form(self) -> list[gr.components.Component]:
        """The fields of a recipe, besides the rows."""
        chosen = self.settings
        return [
            self.prompt,
            chosen.negative,
            chosen.base,
            chosen.revision,
            self.seed,
            chosen.shape,
            chosen.steps,
            chosen.guidance,
            self.init,
            self.count,
        ]

    @property
    def restored(self) -> list[gr.components.Component]:
        """Everything that a recipe fills."""
        return [*self.listed, *self.form, self.init_panel, self.settings.touched, self.stack_image, self.message]

    @property
    def drafted(self) -> DraftedForm:
        """Fields that the browser keeps as drafts; static/js/forms.js keeps the list of LoRAs and the init image with them."""
        chosen = self.settings
        sampling = {"seed": self.seed, "shape": chosen.shape, "steps": chosen.steps, "guidance": chosen.guidance, "count": self.count}
        return DraftedForm("generate", {"prompt": self.prompt, "negative": chosen.negative, "base": chosen.base, **sampling})


def build_workbench(studio: Studio, first: Recipe, requested: gr.State) -> Workbench:
    """`first` is the recipe that the page opens with."""
    first_rows = lora_list.starter_rows({entry.adapter: entry.weight for entry in first.stack})
    head = html(render("generate", "head"), elem_id="generate-head")
    prompt, generate_button = _prompt(first)
    trigger_words = panel(lora_list.chips(first_rows, first.prompt), ("insert",), elem_id="trigger-words")
    with gr.Column(elem_id="generate-messages"):
        message, generation_message = html(), html()
    with gr.Row(elem_classes="workbench"):
        with gr.Column(scale=6, min_width=320):
            with gr.Column(elem_classes="pane"):
                html(render("generate", "list_head"))
                stack = panel(lora_list.show(first_rows), ("toggle", "weigh", "drop", "switch"), elem_id="stack")
                undo = gr.Button("Undo", size="sm", visible=False)
                own, choices, removed_loras = build_adding(studio, requested)
            make_own = gr.Button("Make your own", variant="secondary", elem_id="make-your-own")
            samples = panel("", ("use_samples",), elem_id="first-samples")
        with gr.Column(scale=11, min_width=320, elem_classes="first-on-phone"):
            base_image, stack_image = _images()
            init_panel = panel("", ("set_strength", "drop_init"), elem_id="init-image")
            with gr.Accordion("More settings", open=False, elem_classes="fold"):
                with gr.Row():
                    seed, new_seed, count = _seed(first)
                settings = build_base(studio, first)
            strip = panel("", HISTORY_EVENTS, elem_id="history")
            removed = build_removed(studio, "images")
            removed.render()
            with gr.Row(elem_classes="uploads"):
                init_upload = gr.UploadButton(USE_INIT, file_types=["image"], size="sm", scale=0, min_width=190, elem_id="use-init", type="binary")
                restore = gr.UploadButton(RESTORE, file_types=[".png"], size="sm", scale=0, min_width=270, elem_id="restore", type="binary")
    return Workbench(
        head=head,
        rows=gr.State(first_rows),
        prompt=prompt,
        generate_button=generate_button,
        trigger_words=trigger_words,
        message=message,
        generation_message=generation_message,
        stack=stack,
        undo=undo,
        own=own,
        choices=choices,
        removed_loras=removed_loras,
        make_own=make_own,
        samples=samples,
        base_image=base_image,
        stack_image=stack_image,
        seed=seed,
        new_seed=new_seed,
        count=count,
        settings=settings,
        init=gr.State(None),
        init_panel=init_panel,
        init_upload=init_upload,
        strip=strip,
        removed=removed,
        restore=restore,
    )


def _prompt(first: Recipe) -> tuple[gr.Textbox, gr.Button]:
    with gr.Row(elem_classes="promptline"):
        prompt = gr.Textbox(
            first.prompt,
            label="Prompt",
            show_label=False,
            placeholder="What should the image show?",
            lines=1,
            max_lines=4,
            elem_id="prompt",
            elem_classes="prompt",
            scale=8,
            submit_btn=False,
        )
        generate_button = gr.Button("Generate", variant="primary", size="lg", scale=1, min_width=132, elem_id="generate-images")
    return prompt, generate_button


def _images() -> tuple[gr.HTML, gr.HTML]:
    base_html, stack_html = generation.first_image_panels()
    with gr.Row(elem_classes="stage"):
        return html(base_html, elem_id="base-image"), html(stack_html, elem_id="stack-image")


def _seed(first: Recipe) -> tuple[gr.Number, gr.Button, gr.Slider]:
    minimum, maximum = limits("seed")
    seed = gr.Number(first.seed, label="Seed", info=SEED_HELP, precision=0, minimum=minimum, maximum=maximum)
    new_seed = gr.Button("\u2684 New seed", size="sm", min_width=120, scale=0, elem_classes="dice")
    return seed, new_seed, gr.Slider(1, 4, 1, step=1, label="Images", info="Each with the next seed.")
