"""API endpoints for training runs: start, repeat, inspect, stop, resume and extend."""

from collections.abc import Callable

import gradio as gr

from studio.core.errors import StudioError
from studio.datasets.dataset import Dataset
from studio.jobs.launch import TrainingRequest
from studio.jobs.queue import Job
from studio.runs import starting_points, sweeps
from studio.runs.run import Run
from studio.ui.components import run_state
from studio.ui.studio import Studio


def endpoints(studio: Studio) -> tuple[Callable, ...]:
    return *starting(studio), *controlling(studio)


def starting(studio: Studio) -> tuple[Callable, ...]:
    def train(dataset: str, request: gr.Request, preset: str = "", settings: list[str] | None = None, title: str = "", memory: str = "") -> dict:
        """Start a training. `settings` such as "lora.rank=8" override the preset (mine:<name> for one of your own, run:<id> for the settings of a
        run); without a preset, the one that suits the dataset is used. `memory` such as "12gb" makes the base fit a GPU of that size. Returns
        the run and its job at once; /run shows progress. For several values of a setting use /train_several."""
        workspace = studio.workspace(request)
        opened = Dataset.open(workspace, dataset)
        config = starting_points.build_config(workspace, opened, preset, *(settings or []), memory=memory)
        return ids(*studio.train(studio.owner(request), opened, [TrainingRequest(config, title)])[0])

    def train_several(dataset: str, settings: list[str], request: gr.Request, preset: str = "", title: str = "") -> list[dict]:
        """Queue a run for each value: "lora.rank=8,16,32" is three runs, two such settings make a grid, 20 at most. All of them are queued, or
        none. Returns the title, run and job of each."""
        workspace = studio.workspace(request)
        opened = Dataset.open(workspace, dataset)
        name = title or opened.title
        combinations = sweeps.combinations(settings)
        configs = [starting_points.build_config(workspace, opened, preset, *each.settings) for each in combinations]
        requests = [TrainingRequest(config, each.named(name)) for config, each in zip(configs, combinations)]
        return [{"title": run.title, **ids(run, job)} for run, job in studio.train(studio.owner(request), opened, requests)]

    def train_again(run: str, request: gr.Request, settings: list[str] | None = None, title: str = "") -> list[dict]:
        """Queue new runs with the settings and exactly the images of another run, with these settings changed. If that run failed, "retries" of
        /run lists settings that might help. Returns the title, run and job of each."""
        opened = Run.open(studio.workspace(request), run)
        started = studio.train_again(studio.owner(request), opened, settings or [], title)
        return [{"title": new.title, **ids(new, job)} for new, job in started]

    return train, train_several, train_again


def controlling(studio: Studio) -> tuple[Callable, ...]:
    def run(run: str, request: gr.Request) -> dict:
        """State of a run: state (created, waiting, running, paused, stopped, interrupted, finished or failed), message, step, total steps, loss,
        validation loss, saved LoRAs by step, settings to try after a failure, and notes such as images that were cropped."""
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
            "notes": list(now.notes),
        }

    def stop_run(run: str, request: gr.Request) -> dict:
        """Stop a training; it saves first. A waiting run leaves the queue. Returns at once; /run shows when it has stopped, and /resume_run
        continues it."""
        opened = Run.open(studio.workspace(request), run)
        job = unfinished_job(studio, studio.owner(request), opened)
        if job is None:
            raise StudioError(f"{opened.title} is not running or waiting, so it cannot be stopped; /run shows its state.")
        studio.stop(job)
        return ids(opened, job)

    def resume_run(run: str, request: gr.Request) -> dict:
        """Resume a stopped or interrupted run, to the same bytes as without the stop; or start one that left the queue. Returns the run and its
        job at once; /run shows progress."""
        opened = Run.open(studio.workspace(request), run)
        job = unfinished_job(studio, studio.owner(request), opened)
        if job and (job.cancel_requested or opened.stop_requested):
            raise StudioError(f"{opened.title} is still saving; resume it when /run shows that it has stopped.")
        return ids(opened, studio.resume_run(studio.owner(request), opened))

    def extend_run(run: str, steps: int, request: gr.Request, schedule: str = "") -> dict:
        """Train a finished run for this many more steps, from its end. `schedule`: "keep" goes on at the last learning rate, "new" repeats the
        run's schedule after a warm-up; empty keeps the rate, unless it is nearly zero. Returns the run and its job at once; /run shows progress."""
        opened = Run.open(studio.workspace(request), run)
        opened.extend(steps, schedule)
        return ids(opened, studio.resume_run(studio.owner(request), opened))

    return run, stop_run, resume_run, extend_run


def unfinished_job(studio: Studio, owner: str, run: Run) -> Job | None:
    """The running or waiting job of a run."""
    job = run_state.newest_jobs(studio, owner).get(run.id)
    return job if job and job.unfinished else None


def ids(run: Run, job: Job) -> dict:
    return {"run": run.id, "job": job.id}
