import io

import pytest
from PIL import Image

from studio.errors import StudioError
from studio.recipe import Recipe, StackEntry, add_recipe, read_recipe

RECIPE = Recipe(prompt='a fox — "at night"\n', stack=[StackEntry(adapter="starter:style", weight=0.35, title="Style")], seed=11)


def png(size=(8, 8)) -> bytes:
    buffer = io.BytesIO()
    Image.new("RGB", size, (10, 200, 30)).save(buffer, "png")
    return buffer.getvalue()


def test_a_recipe_comes_back_out_of_its_png_and_the_picture_is_unchanged():
    carried = add_recipe(png(), RECIPE)
    assert read_recipe(carried) == RECIPE
    assert Image.open(io.BytesIO(carried)).convert("RGB").tobytes() == Image.open(io.BytesIO(png())).convert("RGB").tobytes()


def test_the_same_recipe_gives_the_same_bytes_and_replaces_an_older_one():
    once = add_recipe(png(), RECIPE)
    assert add_recipe(once, RECIPE) == once
    assert read_recipe(add_recipe(once, RECIPE.without_stack())) == RECIPE.without_stack()


@pytest.mark.parametrize(
    ("data", "sentence"),
    [
        (b"GIF89a", "not a PNG"),
        (png(), "carries no recipe"),
        (add_recipe(png(), RECIPE)[:60], "cut off"),
        (add_recipe(png(), RECIPE).replace(b'"seed":11', b'"seed":-1'), "seed"),
    ],
)
def test_a_picture_without_a_usable_recipe_is_refused_in_words(data, sentence):
    with pytest.raises(StudioError, match=sentence):
        read_recipe(data)
