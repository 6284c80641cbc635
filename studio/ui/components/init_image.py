"""The init image of the Generate form: which image generation begins from, and how much may differ from it."""

from dataclasses import dataclass

from studio.config.recipe import DEFAULT_STRENGTH, Recipe
from studio.core.errors import StudioError
from studio.core.workspace import Workspace
from studio.ui import files
from studio.ui.components.templates import render


@dataclass(frozen=True)
class InitChoice:
    id: str
    strength: float = DEFAULT_STRENGTH


def of_recipe(workspace: Workspace, recipe: Recipe) -> tuple[InitChoice | None, str]:
    """(the init image of a recipe, if this studio has it; a message otherwise)."""
    if not recipe.init_image or not recipe.strength:
        return None, ""
    if not workspace.init_path(recipe.init_image).is_file():
        return None, "Its init image is not in this studio, so the image will differ."
    return InitChoice(recipe.init_image, recipe.strength), ""


def of_draft(workspace: Workspace, draft: object) -> InitChoice | None:
    """A browser may hold anything; None for what is not an init image of this workspace."""
    if not isinstance(draft, dict):
        return None
    try:
        strength = min(1.0, max(0.0, float(draft.get("strength", DEFAULT_STRENGTH))))
        found = workspace.init_path(str(draft.get("id", ""))).is_file()
    except (StudioError, TypeError, ValueError):
        return None
    return InitChoice(str(draft["id"]), strength or DEFAULT_STRENGTH) if found else None


def show(chosen: InitChoice | None) -> str:
    return render("generate", "init_image", files.url("init", chosen.id), chosen) if chosen else ""
