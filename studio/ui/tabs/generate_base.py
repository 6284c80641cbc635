"""What draws, on the Generate tab: the base, and the settings that follow from it unless somebody sets them: steps, guidance, shape."""

from dataclasses import dataclass

import gradio as gr

from studio.config import fields
from studio.config.recipe import Recipe
from studio.core.errors import StudioError, validated
from studio.core.workspace import Workspace
from studio.families import bases
from studio.ui.components import bases as base_list
from studio.ui.components import lora_list
from studio.ui.studio import QUIET, Studio

SHAPES = {"square": "Square", "portrait": "Upright", "landscape": "Wide"}
OWN = "square"
NEGATIVE_HELP = "It acts only where the guidance is above 1."
BASE_HELP = "What draws. A LoRA works with the kind of base it was trained on. Also a Hub id (owner/name), a folder or a .safetensors file."


@dataclass(frozen=True)
class BaseSettings:
    """The components; `touched` says whether somebody set steps or guidance, which then stay as they are."""

    base: gr.Dropdown
    revision: gr.State
    shape: gr.Radio
    steps: gr.Slider
    guidance: gr.Slider
    negative: gr.Textbox
    touched: gr.State


def build_base(studio: Studio, first: Recipe) -> BaseSettings:
    revision, touched = gr.State(first.revision), gr.State(False)
    base = gr.Dropdown(base_list.choices(), value=first.base_model, label="Base model", info=BASE_HELP, allow_custom_value=True, elem_id="draw-base")
    base_list.place_about(base, studio)
    shape = gr.Radio(shapes(first.base_model), value=OWN, label="Shape", elem_id="shape", elem_classes="ranks shapes")
    with gr.Row():
        steps = gr.Slider(*limits("num_inference_steps"), first.num_inference_steps, step=1, label="Drawing steps", info="More is finer and slower.")
        guidance = gr.Slider(
            *limits("guidance_scale"),
            first.guidance_scale,
            step=0.5,
            label="Obey the prompt (guidance)",
            info="Higher follows the words more strictly; too high looks burnt.",
        )
    negative = gr.Textbox(
        first.negative_prompt,
        label="Keep out (negative prompt)",
        info=NEGATIVE_HELP,
        placeholder="What the picture should not show",
        lines=1,
        elem_id="negative",
    )

    def show(base_model, shape_now):
        known = bases.get_base(base_model)
        return gr.update(visible=known.uses_negative_prompt), gr.update(choices=shapes(base_model, shape_now), visible=bool(known.sizes))

    base.change(show, [base, shape], [negative, shape], **QUIET)
    gr.on([steps.input, guidance.input], lambda: True, None, touched, **QUIET)
    return BaseSettings(base, revision, shape, steps, guidance, negative, touched)


def shapes(base_model: str, chosen: str = OWN) -> list[tuple[str, str]]:
    """(words, value) of what this base draws well, and a size that somebody brought with a picture."""
    sizes = bases.get_base(base_model).sizes
    known = [(f"{words} {sizes[name][0]} x {sizes[name][1]}", name) if sizes else (words, name) for name, words in SHAPES.items()]
    return known if chosen in SHAPES else [*known, (chosen.replace("x", " x "), chosen)]


def size(base_model: str, revision: str | None, shape: str) -> tuple[int | None, int | None]:
    """(width, height) of a recipe; the base's own is said by saying nothing."""
    if shape == OWN:
        return None, None
    if shape in SHAPES:
        return bases.get_base(base_model, revision).sizes.get(shape, (None, None))
    width, _, height = shape.partition("x")
    return int(width), int(height)


def shape_of(recipe: Recipe) -> str:
    """The shape that stands for a recipe's size."""
    asked = (recipe.width, recipe.height)
    if asked == (None, None):
        return OWN
    sizes = bases.get_base(recipe.base_model, recipe.revision).sizes
    side = sizes.get(OWN, asked)[0]
    whole = (asked[0] or side, asked[1] or side)
    return next((name for name, known in sizes.items() if known == whole), "x".join(map(str, whole)))


def recipe_of(workspace: Workspace, rows: list[dict], prompt, negative, base, revision, seed, shape, steps, guidance) -> Recipe:
    """What the form asks for, in its order; a StudioError says what is missing or does not fit."""
    if not prompt.strip():
        raise StudioError("The prompt is empty; write what the picture should show, for example: a red boat by the sea.")
    if not (base or "").strip():
        raise StudioError("No base model is chosen; take one under More settings.")
    width, height = size(base, revision, shape)
    wanted = {
        "prompt": prompt.strip(),
        "negative_prompt": negative.strip() if bases.get_base(base, revision).uses_negative_prompt else "",
        "base_model": base.strip(),
        "revision": revision,
        "stack": [entry.model_dump() for entry in lora_list.stack(workspace, rows)],
        "seed": int(seed or 0),
        "num_inference_steps": int(steps),
        "guidance_scale": guidance,
        "width": width,
        "height": height,
    }
    return validated(Recipe, wanted)


def numbers(base_model: str, revision: str | None, touched: bool) -> tuple:
    """Steps and guidance as the makers of a base draw with it; what somebody set stays."""
    if touched:
        return gr.skip(), gr.skip()
    drawing = bases.get_base(base_model, revision).sampling
    return drawing.num_inference_steps, drawing.guidance_scale


def limits(name: str) -> tuple[float, float]:
    """Least and most of a recipe's number, so that every recipe can be restored."""
    bounds = fields.bounds(Recipe.model_fields[name])
    return bounds["ge"], bounds["le"]
