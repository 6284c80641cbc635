"""From the Generate form to images: recipes, jobs, and the two panels that show base and stack."""

import hashlib
import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from studio import builtin
from studio.config.recipe import Recipe, StackEntry, read_recipe
from studio.core.errors import StudioError
from studio.core.workspace import Workspace
from studio.families import bases
from studio.jobs import worker
from studio.jobs.queue import Job
from studio.runs import library
from studio.ui import files
from studio.ui.components import history, lora_list
from studio.ui.components.templates import render
from studio.ui.studio import Studio

FIRST_PROMPT = "ohwx illustration of sks on a rainy street"
FIRST_DIR = builtin.HERE / "first"
BASE_TITLE = ("Base model", "without any LoRA")
STACK_TITLE = ("With your LoRAs", "same prompt, same seed")


@dataclass(frozen=True)
class ImagePanel:
    """One of the two panels of the Generate tab."""

    html: str
    notes: tuple[str, ...] = ()
    """Warnings of the worker, such as a LoRA that matched only in part."""


def image_panel(title: tuple[str, str], urls: list[str], blank: str = "") -> str:
    saved = urls[0] if len(urls) == 1 and "/image/" in urls[0] else ""
    pair = {} if title == BASE_TITLE else {"pair": "#base-image", "titles": "base model|with LoRAs", "compare": "on"}
    images = [(each, pair | {"image": each.rpartition("/image/")[2] if "/image/" in each else ""}) for each in urls]
    return render("generate", "image_panel", *title, images, saved, blank)


def first_recipe() -> Recipe:
    """The recipe that the page opens with: the one inside the shipped image, or the same scene written out."""
    shipped = FIRST_DIR / "stack.png"
    if shipped.exists():
        return read_recipe(shipped.read_bytes())
    weights = lora_list.FIRST_WEIGHTS
    stack = [
        StackEntry(adapter=each.ref, weight=weights[each.ref], title=each.title, sha256=each.known_sha256)
        for each in library.starters()
        if each.ref in weights
    ]
    return Recipe(prompt=FIRST_PROMPT, stack=stack)


def first_is_shipped() -> bool:
    return all((FIRST_DIR / name).exists() for name in ("base.png", "stack.png"))


def first_image_panels() -> tuple[str, str]:
    """(base, stack) as they are shown before anything is computed."""
    shipped = [FIRST_DIR / "base.png", FIRST_DIR / "stack.png"]
    if first_is_shipped():
        return image_panel(BASE_TITLE, [files.shipped_url(shipped[0])]), image_panel(STACK_TITLE, [files.shipped_url(shipped[1])])
    blank = "The first image is being generated."
    return image_panel(BASE_TITLE, [], blank=blank), image_panel(STACK_TITLE, [], blank=blank)


def shipped(recipe: Recipe) -> Path | None:
    """One of the two shipped images, if it was generated with exactly this recipe."""
    paths = [FIRST_DIR / "stack.png", FIRST_DIR / "base.png"] if first_is_shipped() else []
    return next((path for path in paths if read_recipe(path.read_bytes()).to_json() == recipe.to_json()), None)


class BaseNotDownloaded(StudioError):
    """Not a failure: the base is not on this computer, and no download was requested yet."""


def existing(workspace: Workspace, recipe: Recipe, count: int, title: tuple[str, str]) -> ImagePanel | None:
    """The panel of an image that exists already, in the history or shipped."""
    if count > 1:
        return None
    if image_id := history.find(workspace, recipe):
        return ImagePanel(image_panel(title, [files.url("image", image_id)]))
    path = shipped(recipe)
    return ImagePanel(image_panel(title, [files.shipped_url(path)])) if path else None


def check_base(recipe: Recipe) -> None:
    """BaseNotDownloaded where the base is not local: moving a slider does not start a download of gigabytes."""
    base = bases.get_base(recipe.base_model, recipe.revision)
    if not base.is_local:
        raise BaseNotDownloaded(f"{base.title} is not on this computer yet. Press Generate to download it and generate with it.")


def submit(studio: Studio, owner: str, recipes: Sequence[Recipe], count: int) -> list[Job]:
    """Queue images for the resident worker, which is started if it is not running: all or none. A recipe that is being generated already is not
    generated twice."""
    payloads = [{"recipe": recipe.to_json(), "count": count} for recipe in recipes]
    keys = [f"page-{hashlib.sha256(json.dumps(each, sort_keys=True).encode()).hexdigest()}" for each in payloads]
    jobs = studio.jobs.submit_all(owner, "generate", list(zip(payloads, keys)))
    worker.ensure(studio.home)
    return list(jobs)


def generated(job: Job, title: tuple[str, str]) -> ImagePanel:
    """The panel of a job that is done; StudioError if it ended otherwise."""
    if job.state == "cancelled":
        raise StudioError("Image generation was stopped. Press Generate to start it again.")
    if job.state != "done":
        raise StudioError(job.error or "Image generation ended before the image was finished. Press Generate to try again.")
    addresses = [files.url("image", each) for each in job.result["images"]]
    return ImagePanel(image_panel(title, addresses), tuple(job.result.get("notes", [])))
