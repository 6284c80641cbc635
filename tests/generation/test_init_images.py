"""Init images: kept by their pixels, and the recipe of an image gives it again after the file it began from is gone."""

import io

import numpy
import pytest
from PIL import Image

from studio.config.recipe import Recipe, add_recipe, read_recipe
from studio.core.errors import StudioError
from studio.generation.generator import Generator
from studio.generation.init_images import keep_init_image, load_init_image
from studio.generation.model_cache import ModelCache
from tests.tiny import FAMILY, tiny_base, tiny_pipeline  # noqa: F401 - fixtures

SEED = 3


@pytest.fixture
def sketch():
    return Image.fromarray(numpy.random.default_rng(SEED).integers(0, 255, (40, 60, 3), dtype=numpy.uint8))


def save(image: Image.Image, path, **how):
    image.save(path, **how)
    return path


def test_equal_pixels_are_kept_once_upright_and_without_what_else_the_file_holds(workspace, tmp_path, sketch):
    plain = keep_init_image(workspace, save(sketch, tmp_path / "a.png"))
    exif = Image.Exif()
    exif[0x0112], exif[0x010E] = 3, "the place where it was taken"
    turned = save(sketch.rotate(180), tmp_path / "b.png", exif=exif)
    assert keep_init_image(workspace, turned) == plain
    (kept,) = [path for path in workspace.inits.iterdir() if not path.name.startswith(".")]
    assert b"taken" not in kept.read_bytes()
    assert numpy.array_equal(load_init_image(workspace, plain), sketch)


def test_what_is_not_an_image_is_refused_with_the_reason_and_nothing_is_left(workspace, tmp_path):
    (tmp_path / "a.png").write_bytes(b"%PDF-1.7")
    with pytest.raises(StudioError, match="The init image cannot be used: it is a PDF"):
        keep_init_image(workspace, tmp_path / "a.png")
    assert not list(workspace.inits.iterdir())


@pytest.mark.parametrize("damage", ["gone", "cut"])
def test_a_missing_or_damaged_init_image_is_named(workspace, tmp_path, sketch, damage):
    kept = keep_init_image(workspace, save(sketch, tmp_path / "a.png"))
    path = workspace.init_path(kept)
    if damage == "gone":
        path.unlink()
    else:
        path.write_bytes(path.read_bytes()[:200])
    with pytest.raises(StudioError, match="The init image of this recipe is .*Choose it again"):
        load_init_image(workspace, kept)


def test_the_recipe_in_an_image_gives_the_same_pixels_after_its_source_is_gone(workspace, tmp_path, sketch, tiny_base, tiny_pipeline):  # noqa: F811
    models = ModelCache()
    models.device = "cpu"
    source = save(sketch, tmp_path / "a.png")
    recipe = Recipe(prompt="a cat", num_inference_steps=4, init_image=keep_init_image(workspace, source), strength=0.5)
    models.generators[(recipe.base_model, None)] = Generator(tiny_base, FAMILY, pipeline=tiny_pipeline)

    def draw(one: Recipe) -> tuple[bytes, list[str], int]:
        totals = []
        png, used, notes = models.generate(one, workspace, lambda done, total: totals.append(total))
        return add_recipe(png, used), notes, totals[-1]

    first, notes, steps = draw(recipe)
    assert steps == 2 and any("of it is outside" in note for note in notes)
    source.unlink()
    again, _, _ = draw(read_recipe(first))
    assert again == first
    without, notes, steps = draw(recipe.model_copy(update={"init_image": None, "strength": None}))
    assert Image.open(io.BytesIO(without)).tobytes() != Image.open(io.BytesIO(first)).tobytes() and steps == 4 and not notes
