"""The pictures an owner has drawn, newest first, each with its recipe; and finding one again by its recipe."""

import functools
from dataclasses import dataclass
from pathlib import Path

from studio.config.recipe import Recipe, read_recipe
from studio.core.errors import StudioError
from studio.core.workspace import Workspace
from studio.ui import files
from studio.ui.components.templates import render

SHOWN = 40


@dataclass(frozen=True)
class Drawn:
    id: str
    recipe: Recipe


def drawn(workspace: Workspace, limit: int = SHOWN * 3) -> list[Drawn]:
    """The newest pictures that carry a recipe."""
    newest = sorted(((path.stat().st_mtime_ns, path) for path in workspace.images.glob("*.png")), reverse=True)[:limit]
    found = ((path.stem, _recipe(path, modified)) for modified, path in newest)
    return [Drawn(image_id, recipe) for image_id, recipe in found if recipe]


def find(workspace: Workspace, recipe: Recipe) -> str | None:
    """The id of a picture drawn by exactly this recipe: the same recipe is the same picture, so it need not be drawn again.

    A recipe without a revision takes the base as it was fetched; what drew the picture knows which one that was.
    """
    wanted = _pixels(recipe)
    found = (each.id for each in drawn(workspace) if _pixels(each.recipe) == wanted and recipe.revision in (None, each.recipe.revision))
    return next(found, None)


def _pixels(recipe: Recipe) -> str:
    """What decides over the pixels: of a LoRA its bytes, not what it is called or where it lies; the family follows from the base."""
    acting = [
        entry.model_copy(update={"adapter": "", "title": ""} if entry.sha256 else {"title": ""})
        for entry in recipe.stack
        if entry.on and entry.weight
    ]
    return recipe.model_copy(update={"family": "", "revision": None, "stack": acting}).to_json()


def strip(workspace: Workspace) -> str:
    """Small pictures to click. Those by the base alone stand beside their pair and are left out while there are others."""
    pictures = drawn(workspace)
    with_loras = [each for each in pictures if each.recipe.stack]
    shown = [(each.id, each.recipe.prompt, files.url("image", each.id)) for each in (with_loras or pictures)[:SHOWN]]
    return render("history", "strip", shown) if shown else ""


@functools.lru_cache(maxsize=4096)
def _recipe(path: Path, modified_ns: int) -> Recipe | None:
    try:
        return read_recipe(path.read_bytes())
    except StudioError:
        return None
