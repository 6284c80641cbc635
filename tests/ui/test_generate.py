"""The Generate tab: restoring and adding download nothing unasked, and report what cannot be restored."""

import json
import os

import gradio as gr
import numpy
import pytest
from safetensors.numpy import save_file

from studio.benchmark.tiny import save_tiny_model
from studio.config.recipe import Recipe, StackEntry, add_recipe
from studio.core.access import Access
from studio.core.errors import StudioError
from studio.families import bases
from studio.generation.init_images import keep_init_image
from studio.jobs import worker
from studio.jobs.queue import Jobs
from studio.runs import library
from studio.ui import app as ui
from studio.ui.components import generation, history, init_image, job_bar, lora_list
from studio.ui.components.following import Followed
from studio.ui.components.init_image import InitChoice
from studio.ui.tabs.generate_base import limits
from studio.ui.tabs.generate_stack import StackRequest
from tests.trained import finished_run, png, write_tiny_adapter

PRESENT = "lora-studio/small-world"
SD15, FLUX, KLEIN = "stable-diffusion-v1-5/stable-diffusion-v1-5", "black-forest-labs/FLUX.1-dev", "black-forest-labs/FLUX.2-klein-base-4B"


class Request:
    headers: dict = {}


def write_sd15_adapter(path, studio: dict, width: int = 768) -> None:
    """One layer, whose width identifies the member of the family."""
    layer = "unet.down_blocks.0.attentions.0.transformer_blocks.0.attn2.to_k"
    matrices = {f"{layer}.lora_A.weight": numpy.ones((4, width), numpy.float32), f"{layer}.lora_B.weight": numpy.ones((320, 4), numpy.float32)}
    save_file(matrices, path, metadata={"format": "pt", "studio": json.dumps(studio)})


@pytest.fixture
def handler(home):
    app, _ = ui.build_app(home, Access())
    return lambda name: next(event.fn for event in app.fns.values() if event.fn and event.fn.__name__ == name)


def restored(handler, recipe: Recipe) -> tuple:
    """(base, message)"""
    shown = handler("from_file")(add_recipe(png(7), recipe), PRESENT, None, Request())
    return shown[5], shown[-1]


def test_the_base_of_an_uploaded_recipe_is_not_chosen_unless_known(handler):
    base, message = restored(handler, Recipe(prompt="a cat", base_model="mallory/huge"))
    assert base == PRESENT and "Made with mallory/huge; choose it under Base model to download it." in message
    base, message = restored(handler, Recipe(prompt="a cat", base_model="stable-diffusion-v1-5/stable-diffusion-v1-5"))
    assert (base, message) == ("stable-diffusion-v1-5/stable-diffusion-v1-5", "")


def test_the_heading_changes_with_the_first_lora_of_ones_own(handler, workspace):
    assert "See what a LoRA does" in handler("list_loras")(Request())[0]
    finished_run(workspace)
    assert "Generate with your LoRAs" in handler("list_loras")(Request())[0]


def test_restoring_a_recipe_reports_a_lora_whose_file_changed(handler, workspace):
    stack = [StackEntry(adapter=f"run:{finished_run(workspace).id}", sha256="0" * 64)]
    _, message = restored(handler, Recipe(prompt="a cat", stack=stack))
    assert "Ink has changed since this image was generated." in message


def added(handler, ref: str, base: str = PRESENT, touched: bool = False, alone: bool = False) -> dict:
    """The form after adding one LoRA to an empty list."""
    names = ("rows", "stack", "words", "base", "revision", "steps", "guidance", "prompt", "message")
    return dict(zip(names, handler("add")([], "a cat", base, None, touched, StackRequest((ref,), alone), Request())))


def test_the_base_of_an_uploaded_lora_is_not_chosen_unless_known(handler, workspace):
    write_sd15_adapter(workspace.adapter_path("sent"), {"base_model": "mallory/huge"})
    result = added(handler, "file:sent")
    assert result["base"] == PRESENT and [r["fits"] for r in result["rows"]] == [False]
    assert "Made with mallory/huge; choose it under Base model to download it." in result["message"]
    assert "Left out, made for another base" in result["message"]


def test_adding_a_lora_that_fits_the_chosen_base_changes_nothing_else(handler, workspace):
    write_tiny_adapter(workspace.adapter_path("sent"), {"base_model": "mallory/own-small-world"})
    result = added(handler, "file:sent")
    assert (result["base"], result["message"], result["steps"]) == (PRESENT, "", gr.skip()) and [r["fits"] for r in result["rows"]] == [True]


def test_adding_a_lora_offers_its_base_and_downloads_nothing(handler, workspace):
    write_sd15_adapter(workspace.adapter_path("sent"), {"base_model": SD15})
    result = added(handler, "file:sent")
    assert result["base"] == PRESENT and f'data-click="switch" data-base="{SD15}"' in result["stack"]
    assert "Left out, made for another base: sent." in result["message"]


def test_adding_a_lora_chooses_its_local_base_with_its_sampling_settings(handler, workspace, tmp_path):
    own = str(save_tiny_model(tmp_path / "own", width=24))
    run = finished_run(workspace, f"model.base_model={own}", "model.family=stable-diffusion")
    write_sd15_adapter(run.latest_adapter(), {"base_model": "own"}, width=24)
    result = added(handler, f"run:{run.id}")
    assert (result["base"], result["steps"], result["guidance"]) == (own, 25, 7.5)
    assert "Ink was made for own, which is now the base model." in result["message"]
    kept = added(handler, f"run:{run.id}", touched=True)
    assert (kept["base"], kept["steps"], kept["guidance"]) == (own, gr.skip(), gr.skip())


def test_another_base_sets_its_sampling_settings_unless_the_user_set_them(handler):
    rows, _, chips, revision, steps, guidance, message, _ = handler("use_base")(FLUX, lora_list.starter_rows(), "a cat", False, Request())
    assert (revision, steps, guidance, chips) == (None, 28, 3.5, "") and not any(r["fits"] for r in rows)
    assert "FLUX.1 [dev] is now the base model. Press Generate to download it." in message
    assert handler("use_base")(FLUX, [], "a cat", True, Request())[4:6] == (gr.skip(), gr.skip())
    assert "Press Generate." in handler("use_base")(PRESENT, [], "a cat", True, Request())[6]


def test_switching_the_base_says_that_generate_downloads_it(handler):
    class Event:
        base = FLUX

    *_, steps, guidance, message, _, base = handler("switch")([], "a cat", False, Request(), Event())
    assert (steps, guidance, base) == (28, 3.5, FLUX) and "FLUX.1 [dev] is now the base model. Press Generate to download it." in message


BUTTON, SLIDER, RESTORED = "generate_images", "regenerate_images", "regenerate_and_keep_message"


def press(handler, event: str = BUTTON, followed: Followed | None = None, **form) -> dict:
    """What Generate, or an event that generates, shows at once."""
    given = {"rows": [], "prompt": "a cat", "negative": "", "base": PRESENT, "revision": None, "seed": 7, "shape": "square", "steps": 20}
    given |= {"guidance": 5.0, "init": None, "count": 1} | form
    names = ("followed", "signal", "base", "stack", "strip", "message", "generation_message")
    return dict(zip(names, handler(event)(Request(), followed, *given.values()), strict=True))


@pytest.fixture
def follow(home):
    """follow(followed) -> what the page shows after a change."""
    app, studio = ui.build_app(home, Access())
    changed = next(
        event.fn
        for event in app.fns.values()
        if event.fn and event.fn.__name__ == "changed" and "base-image" in [each.elem_id for each in event.outputs]
    )
    names = ("followed", "signal", "base", "stack", "strip", "generation_message")
    return lambda followed: dict(zip(names, changed(followed, Request()), strict=True))


@pytest.fixture
def idle(monkeypatch):
    monkeypatch.setattr(worker, "ensure", lambda home: None)


@pytest.mark.parametrize(("event", "downloads"), [(BUTTON, True), (SLIDER, False)])
def test_only_the_generate_button_downloads_a_base(handler, monkeypatch, event, downloads):
    def started(*_):
        raise StudioError("Started.")

    monkeypatch.setattr(generation, "submit", started)
    message = press(handler, event, base=FLUX)["generation_message"]
    assert ("Started." in message) == downloads and ("FLUX.1 [dev] is not on this computer yet. Press Generate" in message) != downloads


def submitted(handler, monkeypatch, **form) -> Recipe:
    """The recipe of pressing Generate."""
    monkeypatch.setattr(worker, "ensure", lambda home: None)
    recipes = []
    submit = generation.submit
    monkeypatch.setattr(generation, "submit", lambda studio, owner, wanted, count: recipes.extend(wanted) or submit(studio, owner, wanted, count))
    assert 'class="notice bad"' not in press(handler, **form)["generation_message"]
    return recipes[0]


@pytest.mark.parametrize(("base", "kept"), [(PRESENT, "fog"), (FLUX, ""), (KLEIN, "fog")])
def test_a_negative_prompt_goes_only_to_a_base_that_uses_it(handler, monkeypatch, base, kept):
    recipe = submitted(handler, monkeypatch, base=base, negative=" fog ")
    assert (recipe.negative_prompt, recipe.family) == (kept, bases.get_base(base).family.name)


@pytest.mark.parametrize(
    ("shape", "size"), [("square", (None, None)), ("portrait", (832, 1216)), ("landscape", (1216, 832)), ("640x960", (640, 960))]
)
def test_the_image_size_follows_the_base(handler, monkeypatch, shape, size):
    recipe = submitted(handler, monkeypatch, base=FLUX, shape=shape)
    assert (recipe.width, recipe.height) == size


def test_a_base_of_unknown_size_generates_its_default_size(handler, monkeypatch):
    recipe = submitted(handler, monkeypatch, base="ada/own", shape="portrait")
    assert (recipe.width, recipe.height, recipe.family) == (None, None, "")


@pytest.mark.parametrize("size", [(None, None), (160, 96), (96, 96), (None, 160)])
def test_a_restored_size_is_generated_again(handler, monkeypatch, size):
    shown = handler("from_file")(add_recipe(png(7), Recipe(prompt="a cat", width=size[0], height=size[1])), PRESENT, None, Request())
    shape = shown[8]["value"]
    assert shape in [value for _, value in shown[8]["choices"]]
    again = submitted(handler, monkeypatch, shape=shape)
    assert (again.width or 128, again.height or 128) == (size[0] or 128, size[1] or 128)


def test_an_image_of_the_history_is_restored_with_its_own_base(handler, workspace):
    own = Recipe(prompt="a cat", base_model="ada/own", revision="c" * 40, width=96, height=160)
    workspace.image_path("0" * 32).write_bytes(add_recipe(png(7), own))

    class Event:
        id = "0" * 32

    shown = handler("pick")(Request(), Event())
    assert (shown[5], shown[6], shown[8]["value"]) == ("ada/own", "c" * 40, "96x160") and "0" * 32 in shown[15]


def test_an_init_image_is_restored_with_its_strength_or_missed_aloud(handler, workspace, tmp_path):
    (tmp_path / "sketch.png").write_bytes(png(200, size=32))
    kept = keep_init_image(workspace, tmp_path / "sketch.png")
    for image_id, chosen, warned in ((kept, InitChoice(kept, 0.35), False), ("0" * 64, None, True)):
        recipe = Recipe(prompt="a cat", init_image=image_id, strength=0.35)
        shown = handler("from_file")(add_recipe(png(7), recipe), PRESENT, None, Request())
        assert shown[11] == chosen and bool(shown[13]) == (chosen is not None)
        assert ("Its init image is not in this studio" in shown[-1]) == warned


def test_the_form_generates_from_its_init_image(handler, monkeypatch):
    recipe = submitted(handler, monkeypatch, init=InitChoice("a" * 64, 0.35))
    assert (recipe.init_image, recipe.strength) == ("a" * 64, 0.35)
    assert submitted(handler, monkeypatch).strength is None


def test_a_draft_restores_an_init_image_of_this_workspace_only(workspace, tmp_path):
    (tmp_path / "sketch.png").write_bytes(png(200, size=32))
    kept = keep_init_image(workspace, tmp_path / "sketch.png")
    assert init_image.of_draft(workspace, {"id": kept, "strength": 0.2}) == InitChoice(kept, 0.2)
    for draft in (None, 7, {}, {"id": "0" * 64}, {"id": "../secret"}, {"id": kept, "strength": "much"}):
        assert init_image.of_draft(workspace, draft) is None


def test_restored_sampling_settings_count_as_set_by_the_user_unless_they_are_the_defaults(handler):
    def touched(**numbers) -> bool:
        return handler("from_file")(add_recipe(png(7), Recipe(prompt="a cat", **numbers)), PRESENT, None, Request())[14]

    assert not touched() and touched(num_inference_steps=7) and touched(guidance_scale=2.0)


def test_a_restored_stack_for_another_base_is_left_out(handler):
    flux = Recipe(prompt="a cat", base_model=FLUX, stack=[StackEntry(adapter="starter:style")])
    shown = handler("from_file")(add_recipe(png(7), flux), PRESENT, None, Request())
    assert shown[5] == FLUX and not shown[0][0]["fits"]


@pytest.mark.parametrize(("event", "stays"), [(BUTTON, False), (SLIDER, False), (RESTORED, True)])
def test_the_message_of_restoring_stays_beside_the_message_of_generating(handler, event, stays):
    shown = press(handler, event, prompt=" ")
    assert "The prompt is empty" in shown["generation_message"] and (shown["message"] == gr.skip()) == stays and (shown["message"] != "") == stays


STACK = [{"ref": "starter:style", "title": "Style", "weight": 1.0, "on": True, "fits": True}]


def busy(shown: dict) -> dict[str, list[str]]:
    return {name: shown[name]["elem_classes"] for name in ("stack", "base")}


def finish(home, workspace, job_id: int, name: str) -> None:
    """As the worker does: an image with its recipe, and the job is done."""
    jobs = Jobs(home.database)
    job = jobs.claim_one(job_id, os.getpid())
    workspace.image_path(name * 32).write_bytes(add_recipe(png(7), Recipe.from_json(job.payload["recipe"])))
    jobs.finish(job.id, {"images": [name * 32], "notes": []})


def test_both_images_are_busy_until_both_are_new(handler, follow, home, workspace, idle):
    shown = press(handler, rows=STACK)
    assert busy(shown) == {"stack": ["busy"], "base": ["busy"]} and shown["signal"]
    stack, base = shown["followed"].ids
    finish(home, workspace, stack, "1")
    shown = follow(shown["followed"])
    assert busy(shown) == {"stack": ["busy", "new"], "base": ["busy"]} and "1" * 32 in shown["stack"]["value"] and "value" not in shown["base"]
    assert follow(shown["followed"])["base"] == gr.skip(), "nothing is sent while nothing changes"
    finish(home, workspace, base, "2")
    shown = follow(shown["followed"])
    assert busy(shown) == {"stack": [], "base": []} and "2" * 32 in shown["base"]["value"]
    assert shown["followed"] is None and not shown["signal"]
    again = press(handler, rows=STACK)
    assert busy(again) == {"stack": [], "base": []} and again["followed"] is None, "images that exist are shown at once"


def test_an_image_that_is_outdated_leaves_the_queue(handler, home, idle):
    jobs = Jobs(home.database)
    first = press(handler, SLIDER, rows=STACK)["followed"]
    jobs.claim_one(first.ids[0], os.getpid())
    second = press(handler, SLIDER, first, rows=[STACK[0] | {"weight": 0.5}])["followed"]
    assert [jobs.get(each).state for each in first.ids] == ["running", "waiting"], "one is finished for the history, one is the same base image"
    third = press(handler, SLIDER, second, rows=STACK, prompt="a dog")["followed"]
    assert [jobs.get(each).state for each in second.ids] == ["cancelled", "cancelled"] and all(jobs.get(each).unfinished for each in third.ids)


def test_a_failed_image_says_so_and_the_other_is_not_generated(handler, follow, home, idle):
    jobs = Jobs(home.database)
    followed = press(handler, rows=STACK)["followed"]
    jobs.fail(jobs.claim_one(followed.ids[0], os.getpid()).id, "The GPU ran out of memory.")
    shown = follow(followed)
    assert "The GPU ran out of memory." in shown["generation_message"] and busy(shown) == {"stack": [], "base": []}
    assert shown["followed"] is None and jobs.get(followed.ids[1]).state == "cancelled"


WAITS = "Waits for the training of Ink to end: it uses another base (FLUX.1)."


@pytest.mark.parametrize(("event", "state", "advice"), [(BUTTON, "waiting", "the bar below can stop it"), (SLIDER, "cancelled", "Press Generate")])
def test_an_image_that_waits_for_a_training_says_so_and_only_the_button_queues_it(handler, follow, home, idle, event, state, advice):
    jobs = Jobs(home.database)
    followed = press(handler, event)["followed"]
    (job,) = jobs.list(kinds=("generate",))
    jobs.explain(job.id, WAITS)
    shown = follow(followed)
    assert WAITS in shown["generation_message"] and advice in shown["generation_message"] and "bad" not in shown["generation_message"]
    assert jobs.get(job.id).state == state and (shown["followed"] is None) == (state == "cancelled")
    bar = job_bar.show(home.workspace("local"), [jobs.get(job.id)]) if state == "waiting" else WAITS
    assert WAITS in bar


@pytest.mark.parametrize("name", ["num_inference_steps", "guidance_scale", "seed"])
def test_every_valid_recipe_value_fits_into_the_form(name):
    for value in limits(name):
        Recipe(**{name: value})


def test_an_image_is_found_by_its_recipe_without_revision_and_with_another_lora_name(workspace):
    run = finished_run(workspace)
    sha256 = library.find(workspace, f"run:{run.id}").sha256
    recipe = Recipe(prompt="a cat", revision="c0ffee", stack=[StackEntry(adapter=f"run:{run.id}", title="Ink", sha256=sha256)])
    workspace.image_path("0" * 32).write_bytes(add_recipe(png(7), recipe))
    again = recipe.model_copy(update={"revision": None, "stack": [StackEntry(adapter=f"run:{run.id}@200", title="Ink, step 200", sha256=sha256)]})
    assert history.find(workspace, again) == "0" * 32
    assert history.find(workspace, again.model_copy(update={"revision": "another"})) is None
    assert history.find(workspace, again.without_stack()) is None
