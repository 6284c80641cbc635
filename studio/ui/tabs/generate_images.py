"""Image generation on the Generate tab: both images of the form's recipe, the one with LoRAs first."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import gradio as gr

from studio.core.errors import StudioError
from studio.jobs.queue import Job
from studio.ui.components import generation, history
from studio.ui.components.following import END, SKIP, Followed, Following
from studio.ui.components.html import notice
from studio.ui.studio import QUIET, Studio
from studio.ui.tabs.generate_base import recipe_of
from studio.ui.tabs.generate_workbench import Workbench

TITLES = {"stack": generation.STACK_TITLE, "base": generation.BASE_TITLE}
"""The two images, in the order in which they are generated."""


class Regenerate(Protocol):
    """Generate after another event; `keep_message` leaves the message of that event on the page."""

    def __call__(self, event: gr.events.Dependency, keep_message: bool = False) -> None: ...


@dataclass(frozen=True)
class ImageGeneration:
    """`event` holds the arguments of the event behind the Generate button."""

    event: dict[str, Any]
    regenerate: Regenerate


@dataclass(frozen=True)
class Pair:
    """What one press of Generate brings: the panels that existed already, and the jobs of the others, by their names in TITLES."""

    found: dict[str, str]
    jobs: dict[str, int]
    requested: bool
    """By the button, so images that have to wait for a training stay in the queue."""
    message: str = ""
    """Shown while there is no other message."""


def build_generation(studio: Studio, workbench: Workbench) -> ImageGeneration:
    panels = [workbench.base_image, workbench.stack_image]
    following = Following(studio, lambda *seen: show_pair(studio, *seen), [*panels, workbench.strip, workbench.generation_message])

    def generate_images(request: gr.Request, followed: Followed | None, *values):
        """By the button, so a base that is not here yet is downloaded."""
        *shown, message = begin(studio, request, True, followed, *values)
        return *shown, "", message

    def regenerate_images(request: gr.Request, followed: Followed | None, *values):
        *shown, message = begin(studio, request, False, followed, *values)
        return *shown, "", message

    def regenerate_and_keep_message(request: gr.Request, followed: Followed | None, *values):
        """The message of restoring or adding stays beside the one of generating."""
        *shown, message = begin(studio, request, False, followed, *values)
        return *shown, gr.skip(), message

    shown = [*following.state, *panels, workbench.strip, workbench.message, workbench.generation_message]
    inputs = [following.followed, workbench.rows, *workbench.form]
    generating = {"fn": generate_images, "inputs": inputs, "outputs": shown, "trigger_mode": "always_last", **QUIET}

    def regenerate(event: gr.events.Dependency, keep_message: bool = False) -> None:
        handler = regenerate_and_keep_message if keep_message else regenerate_images
        event.then(**(generating | {"fn": handler}))

    gr.on([workbench.generate_button.click, workbench.prompt.submit], **generating)
    return ImageGeneration(generating, regenerate)


def begin(studio: Studio, request: gr.Request, requested: bool, followed: Followed | None, rows, *values) -> tuple:
    """(followed, signal, base image, image with LoRAs, history, message): images that exist are shown at once, such as the base image while only
    weights change; the others are queued. `requested`: by the button."""
    owner = studio.owner(request)
    workspace = studio.home.workspace(owner)
    *settings, count = values
    try:
        recipe = recipe_of(workspace, rows, *settings)
        recipes = {"stack": recipe, "base": recipe.without_stack()}
        found = {name: panel for name, each in recipes.items() if (panel := generation.existing(workspace, each, int(count), TITLES[name]))}
        missing = {name: each for name, each in recipes.items() if name not in found}
        if missing and not requested:
            generation.check_base(recipe)
        distinct = list({each.to_json(): each for each in missing.values()}.values())
        queued = dict(zip((each.to_json() for each in distinct), generation.submit(studio, owner, distinct, int(count)) if distinct else ()))
    except generation.BaseNotDownloaded as error:
        return *SKIP, *[gr.skip()] * 3, notice(str(error))
    except StudioError as error:
        return *SKIP, *[gr.skip()] * 3, notice(str(error), "bad")
    if followed:
        drop_outdated(studio, owner, followed, queued.values())
    training = missing and studio.jobs.list(owner, kinds=("train",), states=("running",), limit=1)
    message = "Training pauses while this image is generated." if training else ""
    pair = Pair(
        {name: panel.html for name, panel in found.items()}, {name: queued[each.to_json()].id for name, each in missing.items()}, requested, message
    )
    state = Following.begin(list(queued.values()), pair) if queued else END
    return *state, *panels(pair.found, bool(missing)), history.strip(workspace) if found else gr.skip(), notice(message)


def drop_outdated(studio: Studio, owner: str, followed: Followed, current: Iterable[Job]) -> None:
    """Outdated images leave the queue. One that is being generated is finished, and one that waits for a training was announced: both go to the
    history."""
    for job_id in set(followed.ids) - {job.id for job in current}:
        job = studio.jobs.get(job_id, owner)
        if job.state == "waiting" and not job.message:
            studio.stop(job)


def show_pair(studio: Studio, pair: Pair, jobs: Sequence[Job], request: gr.Request) -> tuple:
    """(base image, image with LoRAs, history, message) of jobs in their present state."""
    by_id = {job.id: job for job in jobs}
    done, ended, notes = dict(pair.found), 0, list[str]()
    try:
        for name, job in ((name, by_id[job_id]) for name, job_id in pair.jobs.items()):
            if not job.unfinished:
                panel = generation.generated(job, TITLES[name])
                done[name], ended = panel.html, ended + 1
                notes += [each for each in panel.notes if each not in notes]
    except StudioError as error:
        for job in jobs:
            if job.state == "waiting":
                studio.stop(job)
        return *panels(done, False), gr.skip(), notice(str(error), "bad")
    strip = history.strip(studio.workspace(request)) if ended else gr.skip()
    if waits := next((job.message for job in jobs if job.state == "waiting" and job.message), ""):
        return *panels(done, False), strip, notice(wait(studio, pair, jobs, waits))
    reason = next((job.message for job in jobs if job.state == "running" and job.message.startswith("Waits")), "")
    message = notice(" ".join(notes), "warn") if notes or len(done) == len(TITLES) else notice(reason or pair.message)
    return *panels(done, len(done) < len(TITLES)), strip, message


def wait(studio: Studio, pair: Pair, jobs: Sequence[Job], reason: str) -> str:
    """The message about images that have to wait for the end of a training. Only requested ones stay in the queue."""
    if pair.requested:
        return f"{reason} The image will then be in the history; the bar below can stop it."
    for job in jobs:
        if job.state == "waiting":
            studio.stop(job)
    return f"{reason} Press Generate to put the image into the queue."


def panels(done: dict[str, str], busy: bool) -> tuple:
    """(base image, image with LoRAs). Both are marked busy until both are new; generate.css lays a label over them, and keeps the new one bright."""
    updates = []
    for name in ("base", "stack"):
        value = {"value": done[name]} if name in done else {}
        updates.append(gr.update(elem_classes=["busy", "new"] if busy and name in done else ["busy"] if busy else [], **value))
    return tuple(updates)
