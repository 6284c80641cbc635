"""Filling the Generate form: from one of one's own pictures, from a file with a recipe inside, or for a LoRA that is wanted in the stack."""

from collections.abc import Callable

import gradio as gr

from studio.config.recipe import Recipe, read_recipe
from studio.core.errors import StudioError
from studio.core.workspace import Workspace
from studio.families import bases
from studio.runs import library
from studio.ui import files
from studio.ui.components import generation, lora_list
from studio.ui.components.html import notice
from studio.ui.studio import QUIET, Studio, in_words
from studio.ui.tabs.generate_base import numbers, shape_of, shapes
from studio.ui.tabs.generate_bench import Bench
from studio.ui.tabs.generate_rows import show_rows
from studio.ui.tabs.generate_stack import Wish


def wire_restoring(studio: Studio, bench: Bench, redraw: Callable) -> None:
    by = bench.drawer

    @in_words
    def pick(request: gr.Request, event: gr.EventData):
        """One of their own pictures: whatever drew it was chosen and fetched before."""
        workspace = studio.workspace(request)
        return restored(workspace, read_recipe(workspace.image_path(event.id).read_bytes()), ("", None), event.id)

    def from_file(data: bytes, base, revision, request: gr.Request):
        try:
            return restored(studio.workspace(request), read_recipe(data), (base, revision), None)
        except StudioError as error:
            return *[gr.skip()] * (len(filled) - 1), notice(str(error), "bad")

    filled = [*bench.listed, *bench.form, by.touched, bench.stack_plate, bench.said]
    redraw(bench.strip.pick(pick, None, filled, **QUIET), keep=True)
    redraw(bench.restore.upload(from_file, [bench.restore, by.base, by.revision], filled, **QUIET), keep=True)


def restored(workspace: Workspace, found: Recipe, present: tuple[str, str | None], image_id: str | None) -> tuple:
    """The whole form for a recipe; `present` is the base that draws now, `image_id` the picture of one's own that it is from."""
    rows, missing, changed = lora_list.rows_of(workspace, found.stack)
    base, strange = (found.base_model, found.revision), ""
    if not image_id:
        base, strange = lora_list.known_base(workspace, base, present)
    rows = lora_list.fitted(workspace, rows, *base)
    usual = bases.get_base(*base).sampling
    touched = (found.num_inference_steps, found.guidance_scale) != (usual.num_inference_steps, usual.guidance_scale)
    messages = [f"Not here any more: {', '.join(missing)}. The rest of the recipe is restored."] if missing else []
    messages += [f"{title} has changed since this picture." for title in changed]
    message = notice(" ".join([*messages, strange]).strip(), "warn")
    picture = generation.plate(generation.STACK_TITLE, [files.url("image", image_id)]) if image_id else gr.skip()
    return (
        *show_rows(rows, found.prompt),
        found.prompt,
        found.negative_prompt,
        *base,
        found.seed,
        gr.update(value=shape_of(found), choices=shapes(base[0], shape_of(found))),
        found.num_inference_steps,
        found.guidance_scale,
        1,
        touched,
        picture,
        message,
    )


def wire_adding(studio: Studio, bench: Bench, wanted: gr.State, redraw: Callable) -> None:
    """`wanted` holds the LoRA that anyone wishes into the stack."""

    @in_words
    def add(rows, prompt, base, revision, touched, wanted, request: gr.Request):
        """A LoRA that does nothing on the base that draws brings its own, if that is known and need not be fetched; what does not fit that one
        stays out, in words. To be tried alone, it is drawn with the very base that it was trained on."""
        unchanged = base, revision, gr.skip(), gr.skip(), prompt, ""
        if not wanted:
            return *show_rows(rows, prompt), *unchanged
        workspace = studio.workspace(request)
        cards = [library.find(workspace, ref) for ref in wanted.refs]
        new = [lora_list.row(card) for card in cards if card.ref not in [r["ref"] for r in rows]]
        if not wanted.alone and not new:
            return *show_rows(rows, prompt), *unchanged
        if wanted.alone:
            rows = [r | {"on": r["ref"] in wanted.refs} for r in rows]
            prompt = lora_list.sample_prompt(cards[0]) or prompt
        rows, drawn_by, other = _with_base(workspace, [*rows, *new], cards[0], (base, revision), wanted.alone)
        its_numbers = numbers(*drawn_by, touched) if drawn_by[0] != base else (gr.skip(), gr.skip())
        words = _words(rows, cards[0].title, drawn_by, base, wanted, other)
        return *show_rows(rows, prompt), *drawn_by, *its_numbers, prompt, words

    by = bench.drawer
    after_adding = [*bench.listed, by.base, by.revision, by.steps, by.guidance, bench.prompt, bench.said]
    redraw(wanted.change(add, [bench.rows, bench.prompt, by.base, by.revision, by.touched, wanted], after_adding, **QUIET), keep=True)


def _with_base(workspace: Workspace, rows: list[dict], card: library.AdapterInfo, present: tuple, alone: bool) -> tuple[list[dict], tuple, str]:
    """(the rows, the base that draws them with its revision, what is to be said about the base of the first new LoRA)"""
    rows = lora_list.fitted(workspace, rows, *present)
    if not alone and next(r["fits"] for r in rows if r["ref"] == card.ref):
        return rows, present, ""
    its_own, other = lora_list.known_base(workspace, lora_list.base_of(card), present)
    if alone or bases.get_base(*its_own).is_local:
        return lora_list.fitted(workspace, rows, *its_own), its_own, other
    return rows, present, other


def _words(rows: list[dict], title: str, drawn_by: tuple, base: str, wanted: Wish, other: str) -> str:
    changed = f"{title} was made for {bases.get_base(*drawn_by).title}, so that draws now." if drawn_by[0] != base else ""
    strange = [r["title"] for r in rows if r["on"] and not r["fits"]]
    off = f"Left out, made for another base: {', '.join(strange)}." if strange else ""
    alone = f"Only {title} is on, with one of its sample prompts. Tick others to mix them in." if wanted.alone and len(rows) > 1 else ""
    return notice(" ".join(filter(None, (changed, off, other))), "warn") or notice(alone)
