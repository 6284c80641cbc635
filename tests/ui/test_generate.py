"""Restoring and adding on the Generate tab: nothing a stranger's file says is fetched unasked, and what cannot be the same is said."""

import asyncio
import json

import gradio as gr
import numpy
import pytest
from safetensors.numpy import save_file

from studio.benchmark.tiny import save_tiny_model
from studio.config.recipe import Recipe, StackEntry, add_recipe
from studio.core.access import Access
from studio.core.errors import StudioError
from studio.families import bases
from studio.runs import library
from studio.ui import app as ui
from studio.ui.components import generation, history, lora_list
from studio.ui.tabs.generate_base import limits
from studio.ui.tabs.generate_stack import Wish
from tests.trained import finished_run, png, write_tiny_adapter

PRESENT = "lora-studio/small-world"
SD15, FLUX, KLEIN = "stable-diffusion-v1-5/stable-diffusion-v1-5", "black-forest-labs/FLUX.1-dev", "black-forest-labs/FLUX.2-klein-base-4B"


class Request:
    headers: dict = {}


def write_sd15_adapter(path, studio: dict, width: int = 768) -> None:
    """One layer whose width tells the member of the family."""
    layer = "unet.down_blocks.0.attentions.0.transformer_blocks.0.attn2.to_k"
    halves = {f"{layer}.lora_A.weight": numpy.ones((4, width), numpy.float32), f"{layer}.lora_B.weight": numpy.ones((320, 4), numpy.float32)}
    save_file(halves, path, metadata={"format": "pt", "studio": json.dumps(studio)})


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


def added(handler, ref: str, base: str = PRESENT, touched: bool = False, alone: bool = False) -> dict:
    """What comes of adding one LoRA to an empty list."""
    names = ("rows", "stack", "words", "base", "revision", "steps", "guidance", "prompt", "said")
    return dict(zip(names, handler("add")([], "a cat", base, None, touched, Wish((ref,), alone), Request())))


def test_a_file_somebody_sent_brings_no_base_of_its_own(handler, workspace):
    write_sd15_adapter(workspace.adapter_path("sent"), {"base_model": "mallory/huge"})
    came = added(handler, "file:sent")
    assert came["base"] == PRESENT and [r["fits"] for r in came["rows"]] == [False]
    assert "Made with mallory/huge; choose it under Base model to fetch it." in came["said"] and "Left out, made for another base" in came["said"]


def test_a_lora_that_fits_the_base_that_draws_changes_nothing_else(handler, workspace):
    write_tiny_adapter(workspace.adapter_path("sent"), {"base_model": "mallory/own-small-world"})
    came = added(handler, "file:sent")
    assert (came["base"], came["said"], came["steps"]) == (PRESENT, "", gr.skip()) and [r["fits"] for r in came["rows"]] == [True]


def test_a_lora_whose_base_would_have_to_be_fetched_offers_it_and_fetches_nothing(handler, workspace):
    write_sd15_adapter(workspace.adapter_path("sent"), {"base_model": SD15})
    came = added(handler, "file:sent")
    assert came["base"] == PRESENT and f'data-click="switch" data-base="{SD15}"' in came["stack"]
    assert "Left out, made for another base: sent." in came["said"]


def test_a_lora_whose_base_is_here_brings_it_with_its_numbers(handler, workspace, tmp_path):
    own = str(save_tiny_model(tmp_path / "own", width=24))
    run = finished_run(workspace, f"model.base_model={own}", "model.family=stable-diffusion")
    write_sd15_adapter(run.latest_adapter(), {"base_model": "own"}, width=24)
    came = added(handler, f"run:{run.id}")
    assert (came["base"], came["steps"], came["guidance"]) == (own, 25, 7.5) and "Ink was made for own, so that draws now." in came["said"]
    kept = added(handler, f"run:{run.id}", touched=True)
    assert (kept["base"], kept["steps"], kept["guidance"]) == (own, gr.skip(), gr.skip())


def test_another_base_brings_its_numbers_unless_somebody_set_them(handler):
    rows, _, chips, revision, steps, guidance, said, _ = handler("draw_with")(FLUX, lora_list.starter_rows(), "a cat", False, Request())
    assert (revision, steps, guidance, chips) == (None, 28, 3.5, "") and not any(r["fits"] for r in rows)
    assert "FLUX.1 [dev] draws from now on. Press Draw to fetch it." in said
    assert handler("draw_with")(FLUX, [], "a cat", True, Request())[4:6] == (gr.skip(), gr.skip())
    assert "Press Draw." in handler("draw_with")(PRESENT, [], "a cat", True, Request())[6]


def test_switching_says_that_draw_fetches_it(handler):
    class Event:
        base = FLUX

    *_, steps, guidance, said, _, base = handler("switch")([], "a cat", False, Request(), Event())
    assert (steps, guidance, base) == (28, 3.5, FLUX) and "FLUX.1 [dev] draws from now on. Press Draw to fetch it." in said


@pytest.mark.parametrize(("event", "asks"), [("draw", True), ("draw_again", False)])
def test_only_draw_itself_fetches_a_base(handler, monkeypatch, event, asks):
    def begun(*_):
        raise StudioError("Begun.")

    monkeypatch.setattr(generation, "submit", begun)

    async def press():
        return [shown[-1] async for shown in handler(event)(Request(), [], "a cat", "", FLUX, None, 7, "square", 28, 3.5, 1)]

    *_, said = asyncio.run(press())
    assert ("Begun." in said) == asks and ("FLUX.1 [dev] is not on this computer yet. Press Draw" in said) != asks


def submitted(handler, monkeypatch, **form) -> Recipe:
    """The recipe that pressing Draw asks for."""
    asked = []

    async def note(studio, owner, recipe, count, title, fetch):
        asked.append(recipe)
        return generation.Plate("")

    monkeypatch.setattr(generation, "draw", note)
    given = {"rows": [], "prompt": "a cat", "negative": "", "base": PRESENT, "revision": None, "seed": 7, "shape": "square", "steps": 20}
    given |= {"guidance": 5.0, "count": 1} | form

    async def press():
        async for shown in handler("draw")(Request(), *given.values()):
            assert 'class="notice bad"' not in str(shown[-1]), shown[-1]

    asyncio.run(press())
    return asked[0]


@pytest.mark.parametrize(("base", "kept"), [(PRESENT, "fog"), (FLUX, ""), (KLEIN, "fog")])
def test_a_negative_prompt_goes_only_to_a_base_that_hears_it(handler, monkeypatch, base, kept):
    recipe = submitted(handler, monkeypatch, base=base, negative=" fog ")
    assert (recipe.negative_prompt, recipe.family) == (kept, bases.get_base(base).family.name)


@pytest.mark.parametrize(
    ("shape", "size"), [("square", (None, None)), ("portrait", (832, 1216)), ("landscape", (1216, 832)), ("640x960", (640, 960))]
)
def test_the_shape_becomes_the_size_that_suits_the_base(handler, monkeypatch, shape, size):
    recipe = submitted(handler, monkeypatch, base=FLUX, shape=shape)
    assert (recipe.width, recipe.height) == size


def test_a_base_of_unknown_size_draws_its_own(handler, monkeypatch):
    recipe = submitted(handler, monkeypatch, base="ada/own", shape="portrait")
    assert (recipe.width, recipe.height, recipe.family) == (None, None, "")


@pytest.mark.parametrize("size", [(None, None), (160, 96), (96, 96), (None, 160)])
def test_a_restored_size_is_drawn_again(handler, monkeypatch, size):
    shown = handler("from_file")(add_recipe(png(7), Recipe(prompt="a cat", width=size[0], height=size[1])), PRESENT, None, Request())
    shape = shown[8]["value"]
    assert shape in [value for _, value in shown[8]["choices"]]
    again = submitted(handler, monkeypatch, shape=shape)
    assert (again.width or 128, again.height or 128) == (size[0] or 128, size[1] or 128)


def test_one_of_ones_own_pictures_is_shown_again_with_whatever_drew_it(handler, workspace):
    own = Recipe(prompt="a cat", base_model="ada/own", revision="c" * 40, width=96, height=160)
    workspace.image_path("0" * 32).write_bytes(add_recipe(png(7), own))

    class Event:
        id = "0" * 32

    shown = handler("pick")(Request(), Event())
    assert (shown[5], shown[6], shown[8]["value"]) == ("ada/own", "c" * 40, "96x160") and "0" * 32 in shown[13]


def test_restored_numbers_stay_unless_they_are_the_makers_own(handler):
    def touched(**numbers) -> bool:
        return handler("from_file")(add_recipe(png(7), Recipe(prompt="a cat", **numbers)), PRESENT, None, Request())[12]

    assert not touched() and touched(num_inference_steps=7) and touched(guidance_scale=2.0)


def test_a_restored_stack_of_another_base_stays_out(handler):
    flux = Recipe(prompt="a cat", base_model=FLUX, stack=[StackEntry(adapter="starter:style")])
    shown = handler("from_file")(add_recipe(png(7), flux), PRESENT, None, Request())
    assert shown[5] == FLUX and not shown[0][0]["fits"]


@pytest.mark.parametrize(("event", "stays"), [("draw", False), ("draw_again", False), ("draw_and_keep", True)])
def test_what_restoring_had_to_say_stays_beside_what_the_drawing_after_it_says(handler, event, stays):
    async def press() -> list[tuple]:
        empty_prompt = ([], " ", "", PRESENT, None, 7, "square", 20, 5.0, 1)
        return [shown[-2:] async for shown in handler(event)(Request(), *empty_prompt)]

    *_, (said, news) = asyncio.run(press())
    assert "The prompt is empty" in news and (said == gr.skip()) == stays and (said == "") != stays


def test_the_plate_with_loras_is_busy_until_its_picture_is_there(handler):
    async def press() -> list:
        return [shown[1] async for shown in handler("draw_again")(Request(), [], "a cat", "", FLUX, None, 7, "square", 28, 3.5, 1)]

    assert asyncio.run(press())[0]["elem_classes"] == ["busy"]


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
