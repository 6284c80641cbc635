"""Jobs that a part of the page follows: a handler starts a job and returns, and after each change of the queue another shows how it goes on.

A handler that waits for its job keeps one of the slots of Gradio's queue; see waiting.py.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import gradio as gr

from studio.core.errors import StudioError
from studio.jobs.queue import Job
from studio.ui.components.html import panel
from studio.ui.components.templates import render
from studio.ui.studio import QUIET, Studio


@dataclass(frozen=True)
class Followed:
    """Jobs that one visitor's page follows; `context` is what the handler that started them knows."""

    ids: tuple[int, ...]
    context: Any = None
    shown: tuple = ()


class Following:
    """`show(context, jobs, request, *values)` returns the values of `outputs` whenever a job has changed, the last time when all have ended."""

    def __init__(self, studio: Studio, show: Callable[..., Sequence], outputs: list, inputs: Sequence[gr.components.Component] = ()):
        self.studio = studio
        self.show = show
        self.followed = gr.State(None)
        self.signal = panel("", ("changed",), elem_classes=["hidden-field"])
        self.skipped = [gr.skip()] * len(outputs)

        def changed(followed: Followed | None, request: gr.Request, *values: object) -> tuple:
            return self.look(followed, request, *values)

        self.signal.changed(changed, [self.followed, *inputs], [*self.state, *outputs], **QUIET)

    @property
    def state(self) -> list[gr.components.Component]:
        """Outputs of a handler that starts a job; their values are `begin` or `skip`."""
        return [self.followed, self.signal]

    @staticmethod
    def begin(jobs: Sequence[Job], context: Any = None, before: Followed | None = None) -> tuple:
        """Follow these jobs; with `before`, besides those that are followed already."""
        ids = (*(before.ids if before else ()), *(job.id for job in jobs))
        return Followed(tuple(dict.fromkeys(ids)), context), render("frame", "followed", ids)

    def look(self, followed: Followed | None, request: gr.Request, *values: object) -> tuple:
        if followed is None:
            return *END, *self.skipped
        try:
            owner = self.studio.owner(request)
            jobs = [self.studio.jobs.get(each, owner) for each in followed.ids]
            seen = tuple((job.state, job.done, job.total, job.message) for job in jobs)
            if seen == followed.shown:
                return *SKIP, *self.skipped
            shown = self.show(followed.context, jobs, request, *values)
            # `show` may take a job out of the queue, and then its message is shown.
            left = [job for job in jobs if job.state == "running" or (job.state == "waiting" and self.studio.jobs.get(job.id).state != "cancelled")]
        except StudioError as error:
            # Ends here: raised, it would come back with every change.
            gr.Warning(self.studio.hidden_paths.hide(str(error)))
            return *END, *self.skipped
        return *((replace(followed, shown=seen), gr.skip()) if left else END), *shown


SKIP = (gr.skip(), gr.skip())
END = (None, "")
"""Values of `Following.state` that follow nothing."""
