"""Images that jobs ask for during a run: drawn by the training process between two steps, with the generator of the samples.

A second process with the same base would need its memory twice. Nothing of the training changes, so the run ends in the same bytes.
"""

import functools
import logging
import time
from collections.abc import Callable
from pathlib import Path

from studio import families
from studio.config.recipe import Recipe
from studio.config.runtime import RuntimeConfig
from studio.core.errors import StudioError, error_message
from studio.core.workspace import Workspace
from studio.devices import runtime
from studio.generation.generator import Generator
from studio.generation.images import Drawn, OnStep, generate_image, generate_images
from studio.runs.image_requests import ImageRequest, ImageRequests
from studio.runs.run import Run
from studio.training.samples import SampleGrid

log = logging.getLogger(__name__)

STAY_SECONDS = 1.0
"""A dragged slider asks for the next image at once; a step between two images would delay each of them."""
POLL_SECONDS = 0.02
SECONDS_BETWEEN_REPORTS = 0.1
COMPARED = ("device", "dtype", "quantisation", "attention")
"""Runtime settings in which an image depends on the process that draws it."""


class Withdrawn(Exception):
    """Nobody waits for the image any more: its job was cancelled, or the run stops and the worker draws it afterwards."""


class Drawing:
    """Answers the requests of one run. `save_newest` writes the adapter of the current step, so that one can try the LoRA as it is now."""

    def __init__(self, run: Run, samples: SampleGrid, save_newest: Callable[[], None]):
        self.run, self.samples, self.save_newest = run, samples, save_newest
        self.requests = ImageRequests(run)

    @property
    def requested(self) -> bool:
        return bool(self.requests.pending)

    def answer(self, step: int) -> None:
        """Draw all requested images, and wait a moment for the next request. A stop or a pause ends the series."""
        if not self.requested or self.run.stop_requested:
            return
        self.run.append({"kind": "pausing", "step": step})
        ends = time.monotonic() + STAY_SECONDS
        while time.monotonic() < ends and not (self.run.stop_requested or self.run.pause_requested):
            request = self.requests.take()
            if request is None:
                time.sleep(POLL_SECONDS)
                continue
            if self._is_own(request):
                self.save_newest()
            if outcome := self._outcome(request):
                self.requests.finish(request.key, outcome)
            ends = time.monotonic() + STAY_SECONDS
        self.samples.release_memory()
        self.run.append({"kind": "resumed", "step": step})

    def _is_own(self, request: ImageRequest) -> bool:
        """Whether the images are for the owner of the run. Nobody else can use its LoRA."""
        return self.run.path.is_relative_to(request.workspace.runs)

    def _outcome(self, request: ImageRequest) -> dict | None:
        """The result or the error; None if the request was withdrawn. Whatever fails an image, the run goes on."""
        try:
            return {"result": self._draw(request)}
        except Withdrawn:
            return None
        except Exception as error:  # noqa: BLE001 - see above
            unexpected = not isinstance(error, StudioError)
            log.log(logging.ERROR if unexpected else logging.WARNING, "image %s failed", request.key, exc_info=error)
            # The name of a log file contains the title of the run, which is for its owner only.
            message = error_message(error, Path("logs", f"{self.run.id}.log" if self._is_own(request) else ""))
        # After the exception, whose frames hold tensors.
        self.samples.release_memory(exhausted=unexpected)
        return {"error": message}

    def _draw(self, request: ImageRequest) -> dict:
        written = 0.0

        def report(done: int, total: int, message: str) -> None:
            nonlocal written
            if self.requests.cancelled(request.key) or self.run.stop_requested:
                raise Withdrawn
            if done == total or time.monotonic() - written > SECONDS_BETWEEN_REPORTS:
                written = time.monotonic()
                self.requests.report(request.key, done, total, message)

        report(0, 0, "Generating")
        with self.samples.borrowed_generator() as generator:
            result = generate_images(request.payload, request.workspace, functools.partial(_generate_of_family, generator), report)
        return {**result, "notes": [*result["notes"], *self._differences()]}

    def _differences(self) -> list[str]:
        """A note if the training computes with other settings than the worker, which draws the same recipe after the training."""
        here, later = self.samples.config.runtime, runtime.resolve(RuntimeConfig(exact=False, quantisation="none"))
        differing = [name for name in COMPARED if getattr(here, name) != getattr(later, name)]
        if not differing:
            return []
        settings, others = (", ".join(f"{name} {getattr(each, name)}" for name in differing) for each in (here, later))
        return [f"Generated by the training with its settings ({settings}); after the training the same recipe differs slightly ({others})."]


def _generate_of_family(generator: Generator, recipe: Recipe, workspace: Workspace, on_step: OnStep) -> Drawn:
    families.from_folder(generator.base, recipe.family)
    return generate_image(generator, recipe, workspace, on_step)
