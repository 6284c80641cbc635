"""Trainings for programs: starting one or several, going on, the queue and its order, and comparing what came out."""

from collections.abc import Callable

import gradio as gr

from studio.core.errors import StudioError
from studio.datasets.dataset import Dataset
from studio.jobs.launch import TrainingRequest
from studio.jobs.queue import MOVES, Job
from studio.runs import comparison, starting_points, sweeps
from studio.runs.run import Run
from studio.ui import files
from studio.ui.components import run_state
from studio.ui.studio import Studio


def endpoints(studio: Studio) -> tuple[Callable, ...]:
    """Each under its own name."""

    def train(dataset: str, request: gr.Request, preset: str = "", settings: list[str] | None = None, title: str = "", memory: str = "") -> dict:
        """Start a training, with settings such as "lora.rank=8" on top of the preset (mine:<name> for one of your own, run:<id> for a run's), or
        of the one that fits the pictures where none is named; memory such as "12gb" makes the base fit a graphics card. Returns the run and its
        job at once. Ask /run how it goes. Several values for a setting are for /train_several."""
        workspace = studio.workspace(request)
        pictures = Dataset.open(workspace, dataset)
        config = starting_points.build_config(workspace, pictures, preset, *(settings or []), memory=memory)
        return begun(*studio.train(studio.owner(request), pictures, [TrainingRequest(config, title)])[0])

    def train_several(dataset: str, settings: list[str], request: gr.Request, preset: str = "", title: str = "") -> list[dict]:
        """Queue a run for each value: "lora.rank=8,16,32" is three, two such settings make a grid, 20 at most. All of them are queued, or none.
        Returns the title, run and job of each."""
        workspace = studio.workspace(request)
        pictures = Dataset.open(workspace, dataset)
        name = title or pictures.title
        each_of = sweeps.combinations(settings)
        wanted = [TrainingRequest(starting_points.build_config(workspace, pictures, preset, *each.settings), each.named(name)) for each in each_of]
        return [{"title": run.title, **begun(run, job)} for run, job in studio.train(studio.owner(request), pictures, wanted)]

    def train_again(run: str, request: gr.Request, settings: list[str] | None = None, title: str = "") -> list[dict]:
        """Queue new runs with the settings and the very pictures of another run, apart from these settings. Where that one failed, /run says
        under "retries" which might help. Returns the title, run and job of each."""
        opened = Run.open(studio.workspace(request), run)
        made = studio.train_again(studio.owner(request), opened, settings or [], title)
        return [{"title": new.title, **begun(new, job)} for new, job in made]

    def run(run: str, request: gr.Request) -> dict:
        """How a run is doing: state (created, waiting, running, paused, stopped, interrupted, finished or failed), why, step, of how many, loss,
        loss of the validation images, saved LoRAs by step, and what to try again with after a failure."""
        opened = Run.open(studio.workspace(request), run)
        now = run_state.condition(opened, run_state.newest_jobs(studio, studio.owner(request)).get(opened.id))
        return {
            "state": now.state,
            "message": now.message,
            "step": now.step,
            "steps": now.total,
            "loss": now.curve[-1]["loss"] if now.curve else None,
            "validation_loss": now.validation[-1]["loss"] if now.validation else None,
            "adapters": [f"run:{opened.id}@{step}" for step, _ in opened.adapters()],
            "retries": list(now.retries),
        }

    def stop_run(run: str, request: gr.Request) -> dict:
        """Ask a training to stop: it saves first. One that waits leaves the queue. Returns at once; /run says when it has stopped, and
        /resume_run goes on."""
        opened = Run.open(studio.workspace(request), run)
        job = unfinished(studio.owner(request), opened)
        if job is None:
            raise StudioError(f"{opened.title} is not being trained, so there is nothing to stop; /run says how it is.")
        studio.stop(job)
        return begun(opened, job)

    def resume_run(run: str, request: gr.Request) -> dict:
        """Go on with a run that was stopped or interrupted, to the same bytes; or begin one that left the queue. Returns the run and its job at
        once. Ask /run how it goes."""
        opened = Run.open(studio.workspace(request), run)
        going = unfinished(studio.owner(request), opened)
        if going and (going.cancel_requested or opened.stop_requested):
            raise StudioError(f"{opened.title} is saving before it stops; resume it once /run says that it has.")
        return begun(opened, studio.go_on(studio.owner(request), opened))

    def extend_run(run: str, steps: int, request: gr.Request) -> dict:
        """Train a finished run for so many steps more, from where it ended. Returns the run and its job at once. Ask /run how it goes."""
        opened = Run.open(studio.workspace(request), run)
        opened.extend(steps)
        return begun(opened, studio.go_on(studio.owner(request), opened))

    def queue(request: gr.Request) -> list[dict]:
        """The trainings that run and wait, in their order: run, title, state, steps done and in all, seconds left where they are known."""
        workspace, owner = studio.workspace(request), studio.owner(request)
        mine = [job for job in studio.jobs.queue(("train",)) if job.owner == owner]
        return [
            {
                **begun(opened := Run.open(workspace, job.payload["run"]), job),
                "title": opened.title,
                "state": job.state,
                "done": job.done,
                "steps": opened.config.training.max_train_steps,
                "seconds_left": job.seconds_left,
            }
            for job in mine
        ]

    def move_run(run: str, where: str, request: gr.Request) -> list[dict]:
        """Put a run that waits first, one up or one down in the queue. Returns the queue as it is then."""
        opened = Run.open(studio.workspace(request), run)
        job = unfinished(studio.owner(request), opened)
        if job is None:
            raise StudioError(f"{opened.title} does not wait, so it has no place in the queue; choose a run that /queue lists ({', '.join(MOVES)}).")
        studio.jobs.move(job.id, where)
        return queue(request)

    def compare_runs(runs: list[str], request: gr.Request) -> dict:
        """Two to six runs beside each other: the settings that differ, their last loss, and the addresses of the samples by prompt, at the
        furthest step that all have."""
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

    def unfinished(owner: str, run: Run) -> Job | None:
        """The job that trains a run, or waits to."""
        job = run_state.newest_jobs(studio, owner).get(run.id)
        return job if job and job.unfinished else None

    return train, train_several, train_again, run, stop_run, resume_run, extend_run, queue, move_run, compare_runs


def begun(run: Run, job: Job) -> dict:
    return {"run": run.id, "job": job.id}
