"""Images of a job, by whichever process holds the base: adapters resolved in the owner's workspace, consecutive seeds, recipes in the PNGs."""

import hashlib
import io
import time
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

from studio.config.recipe import Recipe, add_recipe
from studio.core.errors import StudioError
from studio.core.workspace import Workspace, write_atomically
from studio.generation.init_images import load_init_image
from studio.runs import library

if TYPE_CHECKING:
    from studio.generation.generator import Generator

OnStep = Callable[[int, int], None]
Drawn = tuple[bytes, Recipe, list[str]]
"""PNG without a recipe, the recipe with the values used, notes."""

MAX_IMAGES = 64


def generate_images(
    payload: dict, workspace: Workspace, generate: Callable[[Recipe, Workspace, OnStep], Drawn], report: Callable[[int, int, str], None]
) -> dict:
    """{"recipe", "count"} -> {"images": ids, "seconds", "notes"}, with consecutive seeds from the recipe's on. `generate` makes one image;
    `report(done, total, message)` is called after each denoising step and may raise."""
    recipe, count = Recipe.from_json(payload["recipe"]), int(payload.get("count", 1))
    if not 1 <= count <= MAX_IMAGES:
        raise StudioError(f"{count} images cannot be generated in one job; choose 1 to {MAX_IMAGES}.")
    steps, began, images, notes = recipe.num_inference_steps, time.monotonic(), [], []
    for index in range(count):
        message = f"Generating {index + 1} of {count}" if count > 1 else "Generating"
        one = recipe.model_copy(update={"seed": (recipe.seed + index) % 2**32})
        done_before = index * steps

        def on_step(done: int, total: int, before: int = done_before, message: str = message) -> None:
            report(before + done * steps // max(total, 1), steps * count, message)

        png, used_recipe, new_notes = generate(one, workspace, on_step)
        png = add_recipe(png, used_recipe)
        image_id = hashlib.sha256(png).hexdigest()[:32]
        write_atomically(workspace.image_path(image_id), png)
        images.append(image_id)
        notes += [note for note in new_notes if note not in notes]
    return {"images": images, "seconds": round(time.monotonic() - began, 3), "notes": notes}


def generate_image(generator: "Generator", recipe: Recipe, workspace: Workspace, on_step: OnStep) -> Drawn:
    """One image of the generator's base with the adapters that the recipe names in this workspace."""
    adapters, recipe, notes = resolve_adapters(recipe, workspace)
    recipe = recipe.model_copy(update={"family": generator.family.name, "revision": generator.base.revision or recipe.revision})
    init_image = load_init_image(workspace, recipe.init_image) if recipe.init_image else None
    image = generator.generate(recipe, adapters, on_step, init_image)
    png = io.BytesIO()
    image.save(png, format="PNG", compress_level=4)
    return png.getvalue(), recipe, notes + generator.notes


def resolve_adapters(recipe: Recipe, workspace: Workspace) -> tuple[list[tuple[Path, float]], Recipe, list[str]]:
    """Files of the enabled entries, the recipe with the hashes of these files, and notes.

    A recipe names a run's newest LoRA and its hash. If the run has newer checkpoints since, the one with that hash is used, so that the
    recipe of an old image gives the same image.
    """
    files, entries, notes = [], [], []
    for entry in recipe.stack:
        if entry.on and entry.weight:
            adapter = library.find(workspace, entry.adapter)
            if entry.sha256 and adapter.sha256 != entry.sha256:
                adapter = library.find_by_hash(workspace, entry.adapter, entry.sha256) or adapter
                if adapter.sha256 != entry.sha256:
                    notes.append(f"{adapter.title} has changed since this recipe was written; the current file was used.")
            entry = entry.model_copy(update={"sha256": adapter.sha256})
            files.append((adapter.path, entry.weight))
        entries.append(entry)
    return files, recipe.model_copy(update={"stack": entries}), notes
