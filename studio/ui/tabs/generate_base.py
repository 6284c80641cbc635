"""Base model and sampling settings of the Generate tab. Steps, guidance and image sizes follow the base until the user sets them."""

from dataclasses import dataclass

import gradio as gr

from studio.config import fields
from studio.config.recipe import Recipe
from studio.core.errors import StudioError, validated
from studio.core.workspace import Workspace
from studio.families import bases
from studio.ui.components import bases as base_list
from studio.ui.components import lora_list
from studio.ui.components.init_image import InitChoice
from studio.ui.components.lora_list import Row
from studio.ui.studio import QUIET, Studio

SHAPES = {"square": "Square", "portrait": "Portrait", "landscape": "Landscape"}
DEFAULT_SHAPE = "square"
STEPS_HELP = "Number of denoising steps: more is finer and slower."
GUIDANCE_HELP = "How strictly the image follows the prompt. Values that are too high look oversaturated."
NEGATIVE_HELP = "What the image should not show. It acts only where the guidance scale is above 1."
BASE_HELP = (
    "The model that generates. A LoRA works with the kind of base model it was trained on. "
    "Also a Hub id (owner/name), a folder or a .safetensors file."
)


@dataclass(frozen=True)
class BaseSettings:
    """Base model and sampling settings. `touched` is true once the user has set steps or guidance, which a change of base then keeps."""

    base: gr.Dropdown
    revision: gr.State
    shape: gr.Radio
    steps: gr.Slider
    guidance: gr.Slider
    negative: gr.Textbox
    touched: gr.State


def build_base(studio: Studio, first: Recipe) -> BaseSettings:
    revision, touched = gr.State(first.revision), gr.State(False)
    base = gr.Dropdown(
        base_list.choices(), value=first.base_model, label="Base model", info=BASE_HELP, allow_custom_value=True, elem_id="generate-base"
    )
    base_list.add_base_details(base, studio)
    shape = gr.Radio(shapes(first.base_model), value=DEFAULT_SHAPE, label="Image size", elem_id="shape", elem_classes="ranks shapes")
    with gr.Row():
        steps = gr.Slider(*limits("num_inference_steps"), first.num_inference_steps, step=1, label="Steps", info=STEPS_HELP)
        guidance = gr.Slider(*limits("guidance_scale"), first.guidance_scale, step=0.5, label="Guidance scale", info=GUIDANCE_HELP)
    negative = gr.Textbox(first.negative_prompt, label="Negative prompt", info=NEGATIVE_HELP, lines=1, elem_id="negative")

    def update_fields(base_model: str, shape_now: str) -> tuple:
        known = bases.get_base(base_model)
        return gr.update(visible=known.uses_negative_prompt), gr.update(choices=shapes(base_model, shape_now), visible=bool(known.sizes))

    base.change(update_fields, [base, shape], [negative, shape], **QUIET)
    gr.on([steps.input, guidance.input], lambda: True, None, touched, **QUIET)
    return BaseSettings(base, revision, shape, steps, guidance, negative, touched)


def shapes(base_model: str, chosen: str = DEFAULT_SHAPE) -> list[tuple[str, str]]:
    """(label, value) of the image sizes that suit this base, and of the chosen one if it came with a restored image."""
    sizes = bases.get_base(base_model).sizes
    known = [(f"{label} {sizes[name][0]} x {sizes[name][1]}", name) if sizes else (label, name) for name, label in SHAPES.items()]
    return known if chosen in SHAPES else [*known, (chosen.replace("x", " x "), chosen)]


def size(base_model: str, revision: str | None, shape: str) -> tuple[int | None, int | None]:
    """(width, height) of a recipe; both None for the base's default size."""
    if shape == DEFAULT_SHAPE:
        return None, None
    if shape in SHAPES:
        return bases.get_base(base_model, revision).sizes.get(shape, (None, None))
    width, _, height = shape.partition("x")
    return int(width), int(height)


def shape_of(recipe: Recipe) -> str:
    """The value of the image size field for a recipe."""
    requested = (recipe.width, recipe.height)
    if requested == (None, None):
        return DEFAULT_SHAPE
    sizes = bases.get_base(recipe.base_model, recipe.revision).sizes
    side = sizes.get(DEFAULT_SHAPE, requested)[0]
    complete = (requested[0] or side, requested[1] or side)
    return next((name for name, known in sizes.items() if known == complete), "x".join(map(str, complete)))


def recipe_of(
    workspace: Workspace,
    rows: list[Row],
    prompt: str,
    negative: str,
    base: str | None,
    revision: str | None,
    seed: float | None,
    shape: str,
    steps: float,
    guidance: float,
    init: InitChoice | None,
) -> Recipe:
    """The recipe of the form's values, in the order of `Workbench.form`; a StudioError names what is missing or invalid."""
    if not prompt.strip():
        raise StudioError("The prompt is empty; describe the image, for example: a red boat by the sea.")
    base = (base or "").strip()
    if not base:
        raise StudioError("No base model is chosen; choose one under More settings.")
    width, height = size(base, revision, shape)
    values = {
        "prompt": prompt.strip(),
        "negative_prompt": negative.strip() if bases.get_base(base, revision).uses_negative_prompt else "",
        "base_model": base,
        "revision": revision,
        "stack": [entry.model_dump() for entry in lora_list.stack(workspace, rows)],
        "seed": int(seed or 0),
        "num_inference_steps": int(steps),
        "guidance_scale": guidance,
        "width": width,
        "height": height,
        "init_image": init.id if init else None,
        "strength": init.strength if init else None,
    }
    return validated(Recipe, values)


def sampling_defaults(base_model: str, revision: str | None, touched: bool) -> tuple:
    """(steps, guidance) that the base's authors recommend; skipped where the user has set them."""
    if touched:
        return gr.skip(), gr.skip()
    sampling = bases.get_base(base_model, revision).sampling
    return sampling.num_inference_steps, sampling.guidance_scale


def limits(name: str) -> tuple[float, float]:
    """(minimum, maximum) of a recipe's number, so that every recipe can be restored."""
    bounds = fields.bounds(Recipe.model_fields[name])
    return bounds["ge"], bounds["le"]
