"""From the Generate form to pictures: recipes, jobs, and the two plates that show base and stack."""

from dataclasses import dataclass
from pathlib import Path

from studio import builtin
from studio.config.recipe import Recipe, read_recipe
from studio.core.errors import StudioError
from studio.families import bases
from studio.jobs import worker
from studio.jobs.queue import Job
from studio.ui import files
from studio.ui.components import history, lora_list
from studio.ui.components.templates import render
from studio.ui.studio import Studio

FIRST_PROMPT = "ohwx illustration of sks on a rainy street"
FIRST_DIR = builtin.HERE / "first"
BASE_TITLE = ("Base model", "without any LoRA")
STACK_TITLE = ("With your LoRAs", "same words, same seed")


@dataclass(frozen=True)
class Plate:
    """What one of the two frames shows."""

    html: str
    notes: tuple[str, ...] = ()
    """What the worker has to say about it, such as a LoRA that matched only in part."""


def plate(title: tuple[str, str], urls: list[str], blank: str = "") -> str:
    saved = urls[0] if len(urls) == 1 and "/image/" in urls[0] else ""
    return render("generate", "plate", *title, urls, saved, blank)


def first_recipe() -> Recipe:
    """What the page opens with: the recipe inside the shipped picture, or the same scene spelled out."""
    shipped = FIRST_DIR / "stack.png"
    if shipped.exists():
        return read_recipe(shipped.read_bytes())
    return Recipe(prompt=FIRST_PROMPT, stack=lora_list.stack(None, lora_list.starter_rows()))


def first_is_shipped() -> bool:
    return all((FIRST_DIR / name).exists() for name in ("base.png", "stack.png"))


def first_plates() -> tuple[str, str]:
    """(base, stack) as they are painted before anything is computed."""
    shipped = [FIRST_DIR / "base.png", FIRST_DIR / "stack.png"]
    if first_is_shipped():
        return plate(BASE_TITLE, [files.shipped_url(shipped[0])]), plate(STACK_TITLE, [files.shipped_url(shipped[1])])
    blank = "The first picture is being drawn."
    return plate(BASE_TITLE, [], blank=blank), plate(STACK_TITLE, [], blank=blank)


def shipped(recipe: Recipe) -> Path | None:
    """One of the two pictures that ship, if it was drawn by exactly this recipe."""
    pictures = [FIRST_DIR / "stack.png", FIRST_DIR / "base.png"] if first_is_shipped() else []
    return next((path for path in pictures if read_recipe(path.read_bytes()).to_json() == recipe.to_json()), None)


def submit(studio: Studio, owner: str, recipe: Recipe, count: int) -> Job:
    """Ask the resident worker for pictures; it is started if it is not there."""
    job = studio.jobs.submit(owner, "generate", {"recipe": recipe.to_json(), "count": count})
    worker.ensure(studio.home)
    return job


class ToBeFetched(StudioError):
    """Nothing is wrong: the base is not on this computer, and nobody has asked for it yet."""


async def draw(studio: Studio, owner: str, recipe: Recipe, count: int, title: tuple[str, str], fetch: bool = True) -> Plate:
    """The plate's picture: at once when this very recipe was drawn before, else when the worker has drawn it.

    Without `fetch`, ToBeFetched where that would bring gigabytes from the Hub: a moved slider is no word for that.
    """
    if count == 1 and (known := history.find(studio.home.workspace(owner), recipe)):
        return Plate(plate(title, [files.url("image", known)]))
    if count == 1 and (known := shipped(recipe)):
        return Plate(plate(title, [files.shipped_url(known)]))
    base = bases.get_base(recipe.base_model, recipe.revision)
    if not (fetch or base.is_local):
        raise ToBeFetched(f"{base.title} is not on this computer yet. Press Draw to fetch it and draw with it.")
    job = await studio.finished(submit(studio, owner, recipe, count))
    if job.state == "cancelled":
        raise StudioError("Drawing was stopped. Press Draw to start it again.")
    if job.state != "done":
        raise StudioError(job.error or "Drawing ended before the picture was done. Press Draw to try again.")
    addresses = [files.url("image", each) for each in job.result["images"]]
    return Plate(plate(title, addresses), tuple(job.result.get("notes", [])))
