"""Restoring and adding on the Generate tab: nothing a stranger's file says is fetched unasked, and what cannot be the same is said."""

import asyncio

import pytest

from studio import library, ui
from studio.access import Access
from studio.recipe import Recipe, StackEntry, add_recipe
from studio.ui import history
from studio.ui.tabs.generate_base import limits
from studio.ui.tabs.generate_stack import Wish
from tests.trained import finished_run, png, write_tiny_adapter

PRESENT = "lora-studio/small-world"


class Request:
    headers: dict = {}


@pytest.fixture
def handler(home):
    app, _ = ui.build_app(home, Access())
    return lambda name: next(event.fn for event in app.fns.values() if event.fn and event.fn.__name__ == name)


def restored(handler, recipe: Recipe) -> tuple:
    """(base that draws, what is said)"""
    shown = handler("from_file")(add_recipe(png(7), recipe), PRESENT, None, Request())
    return shown[5], shown[-1]


def test_a_recipe_somebody_sent_brings_no_base_of_its_own(handler):
    base, said = restored(handler, Recipe(prompt="a cat", base_model="mallory/huge"))
    assert base == PRESENT and "Made with mallory/huge; choose it under Base model to fetch it." in said
    base, said = restored(handler, Recipe(prompt="a cat", base_model="stable-diffusion-v1-5/stable-diffusion-v1-5"))
    assert (base, said) == ("stable-diffusion-v1-5/stable-diffusion-v1-5", "")


def test_a_recipe_whose_lora_is_another_file_now_says_so(handler, workspace):
    stack = [StackEntry(adapter=f"run:{finished_run(workspace).id}", sha256="0" * 64)]
    _, said = restored(handler, Recipe(prompt="a cat", stack=stack))
    assert "Ink has changed since this picture." in said


def test_a_file_somebody_sent_brings_no_base_of_its_own(handler, workspace):
    write_tiny_adapter(workspace.adapter_path("sent"), {"base_model": "mallory/huge"})
    rows, _, _, base, _, _, said = handler("add")([], "a cat", PRESENT, None, Wish(("file:sent",)), Request())
    assert base == PRESENT and [r["on"] for r in rows] == [False]
    assert "Made with mallory/huge; choose it under Base model to fetch it." in said


def test_what_restoring_had_to_say_stays_beside_what_drawing_says(handler):
    async def said(words: str) -> list:
        empty_prompt = ([], " ", "", PRESENT, None, 7, 20, 5.0, 1)
        return [shown[-1] async for shown in handler("draw_and_keep")(words, Request(), *empty_prompt)]

    (kept,) = asyncio.run(said("<i>Made with mallory/huge.</i>"))
    assert kept.startswith("<i>Made with mallory/huge.</i><div") and "The prompt is empty" in kept


@pytest.mark.parametrize("name", ["num_inference_steps", "guidance_scale", "seed"])
def test_whatever_a_recipe_may_say_fits_into_the_form(name):
    for value in limits(name):
        Recipe(**{name: value})


def test_a_picture_is_found_again_though_the_form_knows_no_revision_and_its_lora_another_name(workspace):
    run = finished_run(workspace)
    sha256 = library.find(workspace, f"run:{run.id}").sha256
    drawn = Recipe(prompt="a cat", revision="c0ffee", stack=[StackEntry(adapter=f"run:{run.id}", title="Ink", sha256=sha256)])
    workspace.image_path("0" * 32).write_bytes(add_recipe(png(7), drawn))
    again = drawn.model_copy(update={"revision": None, "stack": [StackEntry(adapter=f"run:{run.id}@200", title="Ink, step 200", sha256=sha256)]})
    assert history.find(workspace, again) == "0" * 32
    assert history.find(workspace, again.model_copy(update={"revision": "another"})) is None
    assert history.find(workspace, again.without_stack()) is None
