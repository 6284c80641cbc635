import io
import json
from pathlib import Path

import pytest
from PIL import Image

import studio
from studio.config.fields import bounds
from studio.config.model import ModelConfig
from studio.config.recipe import Recipe, StackEntry, add_recipe, read_recipe
from studio.config.samples import SamplesConfig
from studio.core.errors import StudioError
from studio.families import BUILTIN_ID

RECIPE = Recipe(prompt='a fox — "at night"\n', stack=[StackEntry(adapter="starter:style", weight=0.35, title="Style")], seed=11)


def png(size=(8, 8)) -> bytes:
    buffer = io.BytesIO()
    Image.new("RGB", size, (10, 200, 30)).save(buffer, "png")
    return buffer.getvalue()


def test_a_recipe_is_read_back_from_its_png_and_the_image_is_unchanged():
    carried = add_recipe(png(), RECIPE)
    assert read_recipe(carried) == RECIPE
    assert Image.open(io.BytesIO(carried)).convert("RGB").tobytes() == Image.open(io.BytesIO(png())).convert("RGB").tobytes()


def test_the_same_recipe_gives_the_same_bytes_and_replaces_an_older_one():
    once = add_recipe(png(), RECIPE)
    assert add_recipe(once, RECIPE) == once
    assert read_recipe(add_recipe(once, RECIPE.without_stack())) == RECIPE.without_stack()


def test_a_recipe_without_an_init_image_is_written_as_before_there_were_any_and_has_no_strength():
    assert not {"init_image", "strength"} & json.loads(RECIPE.to_json()).keys()
    assert Recipe(strength=0.3) == Recipe()
    begun = Recipe(init_image="a" * 64)
    assert begun.strength == 0.6 and read_recipe(add_recipe(png(), begun)) == begun
    assert begun.without_stack().init_image == begun.init_image


@pytest.mark.parametrize(
    ("data", "sentence"),
    [
        (b"GIF89a", "not a PNG"),
        (png(), "contains no recipe"),
        (add_recipe(png(), RECIPE)[:60], "truncated"),
        (add_recipe(png(), RECIPE).replace(b'"seed":11', b'"seed":-1'), "seed"),
    ],
)
def test_an_image_without_a_usable_recipe_is_refused_with_a_message(data, sentence):
    with pytest.raises(StudioError, match=sentence):
        read_recipe(data)


@pytest.mark.parametrize("name", ["seed", "num_inference_steps", "guidance_scale"])
def test_samples_of_a_run_have_the_same_defaults_as_images(name):
    here, there = Recipe.model_fields[name], SamplesConfig.model_fields[name]
    assert (here.default, bounds(here)) == (there.default, bounds(there)) and bounds(there)


def test_the_built_in_base_is_named_in_one_place():
    assert Recipe().base_model == ModelConfig().base_model == BUILTIN_ID
    house = Path(studio.__file__).parent
    naming = {path.relative_to(house).as_posix() for path in house.rglob("*.py") if BUILTIN_ID in path.read_text(encoding="utf-8")}
    assert {name for name in naming if not name.startswith("families/")} == set()


def test_every_recipe_field_that_users_set_has_a_help_text():
    silent = {name for name, field in Recipe.model_fields.items() if not field.description}
    assert silent == set()
