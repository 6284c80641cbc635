"""History of an owner's generated images, newest first, each with its recipe; and search for an image by its recipe."""

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
class GeneratedImage:
    id: str
    recipe: Recipe


def list_images(workspace: Workspace, limit: int = SHOWN * 3) -> list[GeneratedImage]:
    """The newest images that contain a recipe."""
    newest = sorted(((path.stat().st_mtime_ns, path) for path in workspace.images.glob("*.png")), reverse=True)[:limit]
    found = ((path.stem, _readable_recipe(path, modified)) for modified, path in newest)
    return [GeneratedImage(image_id, recipe) for image_id, recipe in found if recipe]


def find(workspace: Workspace, recipe: Recipe) -> str | None:
    """The id of an image generated with this recipe: the same recipe gives the same image, so it need not be generated again.

    A recipe without a revision uses the base as it was downloaded; the recipe inside the image has the revision that was used.
    """
    key = _pixels(recipe)
    found = (each.id for each in list_images(workspace) if _pixels(each.recipe) == key and recipe.revision in (None, each.recipe.revision))
    return next(found, None)


def _pixels(recipe: Recipe) -> str:
    """The part of a recipe that determines the pixels: of a LoRA its bytes, not its name or place; the family follows from the base."""
    acting = [
        entry.model_copy(update={"adapter": "", "title": ""} if entry.sha256 else {"title": ""})
        for entry in recipe.stack
        if entry.on and entry.weight
    ]
    return recipe.model_copy(update={"family": "", "revision": None, "stack": acting}).to_json()


def strip(workspace: Workspace) -> str:
    """Thumbnails to click. Images of the base alone belong to a pair and are left out if there are others."""
    images = list_images(workspace)
    with_loras = [each for each in images if each.recipe.stack]
    bases = {_pixels(each.recipe): files.url("image", each.id) for each in images if not each.recipe.stack}
    shown = [
        (each.id, each.recipe.prompt, files.url("image", each.id), bases.get(_pixels(each.recipe.without_stack())) if each.recipe.stack else "")
        for each in (with_loras or images)[:SHOWN]
    ]
    return render("history", "strip", shown) if shown else ""


def _readable_recipe(path: Path, modified_ns: int) -> Recipe | None:
    try:
        return _recipe(path, modified_ns)
    except OSError:
        return None


@functools.lru_cache(maxsize=4096)
def _recipe(path: Path, modified_ns: int) -> Recipe | None:
    """Kept until the file changes. An OSError is not kept: a file that may not be read can become readable without a change."""
    try:
        return read_recipe(path.read_bytes())
    except StudioError:
        return None
