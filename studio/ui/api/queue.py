"""API endpoints for the training queue and for comparing runs."""

from collections.abc import Callable

import gradio as gr

from studio.core.errors import StudioError
from studio.jobs.queue import MOVES
from studio.runs import comparison
from studio.runs.run import Run
from studio.ui import files
from studio.ui.api.runs import ids, unfinished_job
from studio.ui.studio import Studio


def endpoints(studio: Studio) -> tuple[Callable, ...]:
    def queue(request: gr.Request) -> list[dict]:
        """The running and waiting trainings in order: run, title, state, steps done, total steps, and seconds left where known."""
        workspace, owner = studio.workspace(request), studio.owner(request)
        own_jobs = [job for job in studio.jobs.queue(("train",)) if job.owner == owner]
        return [
            {
                **ids(opened := Run.open(workspace, job.payload["run"]), job),
                "title": opened.title,
                "state": job.state,
                "done": job.done,
                "steps": opened.config.training.max_train_steps,
                "seconds_left": job.seconds_left,
            }
            for job in own_jobs
        ]

    def move_run(run: str, where: str, request: gr.Request) -> list[dict]:
        """Move a waiting run to the front of the queue, or one place up or down. Returns the new queue."""
        opened = Run.open(studio.workspace(request), run)
        job = unfinished_job(studio, studio.owner(request), opened)
        if job is None:
            raise StudioError(f"{opened.title} is not in the queue; choose a run that /queue lists. Moves: {', '.join(MOVES)}.")
        studio.jobs.move(job.id, where)
        return queue(request)

    def compare_runs(runs: list[str], request: gr.Request) -> dict:
        """Compare two to six runs: the settings that differ, their last loss, and the addresses of the samples by prompt, at the last step that
        all runs have."""
        opened = comparison.select_runs(studio.workspace(request), runs)
        step = max(comparison.steps_in_common(opened), default=None)
        curves = [each.curve() for each in opened]
        return {
            "runs": [each.id for each in opened],
            "settings": [{"setting": each.path, "title": each.title, "values": list(each.values)} for each in comparison.find_differences(opened)],
            "loss": [curve[-1]["loss"] if curve else None for curve in curves],
            "step": step,
            "samples": {
                prompt: ["/" + files.url("sample", each.id, step, row) for each, row in zip(opened, rows)]
                for prompt, rows in (comparison.prompts_in_common(opened) if step is not None else [])
            },
        }

    return queue, move_run, compare_runs
