"""Images of the history: removing and restoring them; and addresses that come back from the page."""

import pytest

from studio.config.recipe import Recipe, add_recipe
from studio.core.errors import StudioError
from studio.runs import trash
from studio.ui import files
from studio.ui.components import history
from studio.ui.components.removed import listing
from tests.trained import png

FOREIGN = ["/etc/passwd", "studio/file/image/..%2f..%2fapp", "studio/file/image/missing", "http://elsewhere/studio/file/image/boat", ""]


def test_a_removed_image_is_listed_by_its_prompt_and_comes_back(workspace):
    path = workspace.image_path("boat")
    path.write_bytes(add_recipe(png(1), Recipe(prompt="a <b>boat</b>")))
    workspace.remove(path)
    assert history.strip(workspace) == ""
    assert "a &lt;b&gt;boat&lt;/b&gt;" in listing(workspace, "images")
    ((item, _),) = trash.list_removed(workspace, "images")
    workspace.restore(item.id)
    assert 'data-image="boat"' in history.strip(workspace)


@pytest.mark.parametrize(
    "address", ["/etc/passwd", "studio/file/image/..%2f..%2fapp", "studio/file/image/missing", "http://elsewhere/studio/file/image/boat", ""]
)
def test_only_an_address_of_the_page_leads_to_a_file(workspace, address):
    with pytest.raises(StudioError):
        files.find_address(workspace, address)


def test_an_image_with_loras_is_compared_with_the_same_image_of_the_base(workspace):
    recipe = Recipe(prompt="a boat", stack=[{"adapter": "starter:dusk", "weight": 0.5}])
    for name, one in (("with", recipe), ("base", recipe.without_stack()), ("other", recipe.model_copy(update={"prompt": "a cat"}))):
        workspace.image_path(name).write_bytes(add_recipe(png(1), one))
    strip = history.strip(workspace)
    assert strip.count('data-before="studio/file/image/base"') == 1 and strip.count("data-large=") == 2


def test_an_image_that_the_system_does_not_read_hides_no_other(workspace):
    workspace.image_path("boat").write_bytes(add_recipe(png(1), Recipe(prompt="a boat")))
    workspace.image_path("unreadable").mkdir()
    assert [each.id for each in history.list_images(workspace)] == ["boat"]
    for name in ("boat", "unreadable"):
        workspace.remove(workspace.image_path(name))
    assert [title for _, title in trash.list_removed(workspace, "images")] == [trash.UNTITLED, "a boat"]
