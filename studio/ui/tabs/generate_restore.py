"""Filling the Generate form from an image of the history, from a file with a recipe inside, or for a LoRA that another tab requests."""

import re

import gradio as gr

from studio.config.recipe import Recipe, StackEntry, read_recipe
from studio.core.errors import StudioError, validated
from studio.core.workspace import Workspace
from studio.families import bases
from studio.runs import library
from studio.ui import files
from studio.ui.components import bases as base_list
from studio.ui.components import generation, history, init_image, lora_list
from studio.ui.components.html import notice
from studio.ui.components.lora_list import BaseVersion, Row
from studio.ui.form_drafts import DraftedForm
from studio.ui.studio import QUIET, Studio, show_errors
from studio.ui.tabs.generate_base import DEFAULT_SHAPE, sampling_defaults, shape_of, shapes
from studio.ui.tabs.generate_images import Regenerate
from studio.ui.tabs.generate_init import show_init
from studio.ui.tabs.generate_rows import show_rows
from studio.ui.tabs.generate_stack import StackRequest
from studio.ui.tabs.generate_workbench import Workbench


def wire_restoring(studio: Studio, workbench: Workbench, regenerate: Regenerate) -> None:
    settings = workbench.settings

    @show_errors
    def pick(request: gr.Request, event: gr.EventData) -> tuple:
        """From the owner's history: the base that generated the image was chosen and downloaded before."""
        workspace = studio.workspace(request)
        return restored(workspace, read_recipe(workspace.image_path(event.id).read_bytes()), ("", None), event.id)

    def from_file(data: bytes, base: str, revision: str | None, request: gr.Request) -> tuple:
        try:
            return restored(studio.workspace(request), read_recipe(data), (base, revision), None)
        except StudioError as error:
            return *[gr.skip()] * (len(filled) - 1), notice(str(error), "bad")

    filled = workbench.restored
    regenerate(workbench.strip.pick(pick, None, filled, **QUIET), keep_message=True)
    uploaded = workbench.restore.upload(from_file, [workbench.restore, settings.base, settings.revision], filled, **QUIET)
    regenerate(uploaded, keep_message=True)


def restored(workspace: Workspace, recipe: Recipe, current: BaseVersion, image_id: str | None) -> tuple:
    """The whole form for a recipe. `current` is the chosen base; `image_id` the image of the history that the recipe came from, if any."""
    rows, missing, changed = lora_list.rows_of(workspace, recipe.stack)
    base: BaseVersion = (recipe.base_model, recipe.revision)
    base_message = ""
    if not image_id:
        base, base_message = lora_list.known_base(workspace, base, current)
    rows = lora_list.fitted(workspace, rows, *base)
    usual = bases.get_base(*base).sampling
    touched = (recipe.num_inference_steps, recipe.guidance_scale) != (usual.num_inference_steps, usual.guidance_scale)
    messages = [f"No longer in this studio: {', '.join(missing)}. The rest of the recipe is restored."] if missing else []
    messages += [f"{title} has changed since this image was generated." for title in changed]
    init, init_message = init_image.of_recipe(workspace, recipe)
    message = notice(" ".join(filter(None, [*messages, init_message, base_message])), "warn")
    image = generation.image_panel(generation.STACK_TITLE, [files.url("image", image_id)]) if image_id else gr.skip()
    return (
        *show_rows(rows, recipe.prompt),
        recipe.prompt,
        recipe.negative_prompt,
        *base,
        recipe.seed,
        gr.update(value=shape_of(recipe), choices=shapes(base[0], shape_of(recipe))),
        recipe.num_inference_steps,
        recipe.guidance_scale,
        init,
        1,
        init_image.show(init),
        touched,
        image,
        message,
    )


def restored_image(workspace: Workspace, image_id: str) -> tuple:
    """The values of `Workbench.restored` and of the base image for an image of the history. Nothing is generated for it."""
    recipe = read_recipe(workspace.image_path(image_id).read_bytes())
    pair = history.find(workspace, recipe.without_stack())
    addresses = [files.url("image", pair)] if pair else []
    base = generation.image_panel(generation.BASE_TITLE, addresses, blank="Press Generate for the image of the base model.")
    return *restored(workspace, recipe, ("", None), image_id), base


def restore_draft(workspace: Workspace, workbench: Workbench, form: DraftedForm, draft: dict, opened: dict) -> dict:
    """Values of the form for an unsaved draft, on top of those that the page opens with."""
    settings = workbench.settings
    base = form.values(draft, {"base": base_list.choices(workspace)}).get("base") or opened.get(settings.base) or settings.base.value
    revision = opened.get(settings.revision) if base == opened.get(settings.base) else None
    shape = str(draft.get("shape", DEFAULT_SHAPE))
    sizes = shapes(base, shape if re.fullmatch(r"\d+x\d+", shape) else DEFAULT_SHAPE)
    found = form.values(draft, {"base": base_list.choices(workspace), "shape": sizes})
    values = {form.fields[name]: value for name, value in found.items()}
    if "shape" in found:
        values[settings.shape] = gr.update(value=found["shape"], choices=sizes)
    if {"steps", "guidance"} & found.keys():
        values[settings.touched] = True
    if "init" in draft:
        values |= dict(zip(workbench.chosen_init, show_init(init_image.of_draft(workspace, draft["init"])), strict=True))
    rows = opened.get(workbench.rows, workbench.rows.value)
    if isinstance(draft.get("stack"), list):
        rows, missing, _ = lora_list.rows_of(workspace, _stack_entries(draft["stack"]))
        if missing:
            values[workbench.message] = notice(f"No longer in this studio: {', '.join(missing)}. The other LoRAs are restored.", "warn")
    rows = lora_list.fitted(workspace, rows, base, revision)
    prompt = found.get("prompt") or opened.get(workbench.prompt) or workbench.prompt.value
    shown = dict(zip(workbench.listed, show_rows(rows, prompt), strict=True))
    return {**values, **shown, settings.base: base, settings.revision: revision}


def _stack_entries(kept: list) -> list[StackEntry]:
    """A browser may hold anything; what is not an entry is left out."""
    entries = []
    for each in kept:
        try:
            entries.append(validated(StackEntry, each))
        except StudioError:
            continue
    return entries


def wire_adding(studio: Studio, workbench: Workbench, requested: gr.State, regenerate: Regenerate) -> None:
    """Carry out the StackRequest in `requested`."""

    @show_errors
    def add(
        rows: list[Row], prompt: str, base: str, revision: str | None, touched: bool, requested: StackRequest | None, request: gr.Request
    ) -> tuple:
        """A LoRA that does nothing on the chosen base switches to its own, if that is known and need not be downloaded; LoRAs that do not fit
        that base are left out, with a message. A LoRA to be tried alone runs on exactly the base that it was trained on."""
        unchanged = base, revision, gr.skip(), gr.skip(), prompt, ""
        if not requested:
            return *show_rows(rows, prompt), *unchanged
        workspace = studio.workspace(request)
        adapters = [library.find(workspace, ref) for ref in requested.refs]
        new = [lora_list.row(adapter) for adapter in adapters if adapter.ref not in [r["ref"] for r in rows]]
        if not requested.alone and not new:
            return *show_rows(rows, prompt), *unchanged
        if requested.alone:
            rows = [r | {"on": r["ref"] in requested.refs} for r in rows]
            prompt = lora_list.sample_prompt(adapters[0]) or prompt
        rows, chosen, base_message = _choose_base(workspace, [*rows, *new], adapters[0], (base, revision), requested.alone)
        sampling = sampling_defaults(*chosen, touched) if chosen[0] != base else (gr.skip(), gr.skip())
        message = _adding_message(rows, adapters[0].title, chosen, base, requested, base_message)
        return *show_rows(rows, prompt), *chosen, *sampling, prompt, message

    form = workbench.settings
    inputs = [workbench.rows, workbench.prompt, form.base, form.revision, form.touched, requested]
    outputs = [*workbench.listed, form.base, form.revision, form.steps, form.guidance, workbench.prompt, workbench.message]
    regenerate(requested.change(add, inputs, outputs, **QUIET), keep_message=True)


def _choose_base(
    workspace: Workspace, rows: list[Row], adapter: library.AdapterInfo, current: BaseVersion, alone: bool
) -> tuple[list[Row], BaseVersion, str]:
    """(the rows, the base to generate with, a message about the base of the first new LoRA)"""
    rows = lora_list.fitted(workspace, rows, *current)
    if not alone and next(r["fits"] for r in rows if r["ref"] == adapter.ref):
        return rows, current, ""
    own, message = lora_list.known_base(workspace, lora_list.base_of(adapter), current)
    if alone or bases.get_base(*own).is_local:
        return lora_list.fitted(workspace, rows, *own), own, message
    return rows, current, message


def _adding_message(rows: list[Row], title: str, chosen: BaseVersion, base: str, requested: StackRequest, base_message: str) -> str:
    changed = f"{title} was made for {bases.get_base(*chosen).title}, which is now the base model." if chosen[0] != base else ""
    unfit = [r["title"] for r in rows if r["on"] and not r["fits"]]
    off = f"Left out, made for another base: {', '.join(unfit)}." if unfit else ""
    alone = f"Only {title} is on, with one of its sample prompts. Switch on others to combine them." if requested.alone and len(rows) > 1 else ""
    return notice(" ".join(filter(None, (changed, off, base_message))), "warn") or notice(alone)
