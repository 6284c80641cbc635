"""Training commands: train one run or several, repeat, resume and extend runs."""

import shlex
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated

import typer

from studio import config as configs
from studio.cli.terminal import HomeOption, Stopped, console, follow, open_home, stderr
from studio.config.schedules import describe_extensions
from studio.core.errors import StudioError
from studio.core.workspace import Home
from studio.datasets.dataset import Dataset
from studio.jobs import launch, worker
from studio.jobs.launch import TrainingRequest
from studio.jobs.queue import Job, Jobs
from studio.runs import starting_points, sweeps
from studio.runs.creation import dataset_notes
from studio.runs.run import Run

OVERLAYS = [overlay.name.removeprefix("memory-") for overlay in configs.overlays()]
SETTINGS = "Settings, for example lora.rank=8 training.max_train_steps=300; lora.rank=8,16,32 gives three runs."
Settings = Annotated[list[str] | None, typer.Argument(help=SETTINGS)]
RunId = Annotated[str, typer.Argument(help="Id of the run.")]
Wait = Annotated[bool, typer.Option("--wait/--no-wait", help="Wait until training ends, or only add it to the queue; `queue` shows the progress.")]


def train(
    dataset: Annotated[str, typer.Argument(help="Id of the dataset.")],
    overrides: Settings = None,
    preset: Annotated[str, typer.Option(help="Preset to start from; default: the one that fits the dataset. `show presets` lists them.")] = "",
    memory: Annotated[
        str, typer.Option(help=f"Settings for a GPU with this much memory: {', '.join(OVERLAYS)}; default: chosen by free memory.")
    ] = "",
    title: Annotated[str, typer.Option(help="Title of the LoRA; default: a name from dataset, rank, steps and date.")] = "",
    wait: Wait = True,
    home: HomeOption = None,
) -> None:
    """Train a LoRA, or several with different settings.

    Ctrl-C saves a checkpoint and stops; after `resume` the result is bit-identical to uninterrupted training.
    """
    place, workspace, jobs = open_home(home)
    opened = Dataset.open(workspace, dataset)
    several = sweeps.combinations(overrides or [])
    name = title or (opened.title if len(several) > 1 else "")
    requests = [
        TrainingRequest(starting_points.build_config(workspace, opened, preset, *each.settings, memory=memory), each.named(name)) for each in several
    ]
    for note in dict.fromkeys(note for each in requests for note in dataset_notes(each.config, opened.images)):
        stderr.print(note, highlight=False)
    print_and_follow(home, place, jobs, launch.train(workspace, jobs, opened, requests), wait)


def again(
    run: RunId,
    overrides: Settings = None,
    title: Annotated[str, typer.Option(help="Title of the LoRA; default: the run's title and the settings that differ.")] = "",
    wait: Wait = True,
    home: HomeOption = None,
) -> None:
    """Train a new run like an earlier one.

    It uses the images and settings of that run, except for the settings given here. Without changed settings the result is bit-identical.
    """
    place, workspace, jobs = open_home(home)
    print_and_follow(home, place, jobs, launch.train_again(workspace, jobs, Run.open(workspace, run), overrides or [], title), wait)


def resume(run: RunId, home: HomeOption = None) -> None:
    """Resume a run that was stopped or interrupted."""
    place, workspace, jobs = open_home(home)
    opened = Run.open(workspace, run)
    follow_all(home, place, jobs, [(opened, launch.resume(jobs, workspace, opened))])


def extend(
    run: RunId,
    steps: Annotated[int, typer.Argument(help="Number of steps to add.")],
    schedule: Annotated[
        str,
        typer.Option(
            help="Learning rate of the added steps: keep (the last one) or new (the run's schedule again, with warm-up); "
            "default: keep, or new where the last one is nearly zero."
        ),
    ] = "",
    wait: Wait = True,
    home: HomeOption = None,
) -> None:
    """Train a finished run for more steps."""
    place, workspace, jobs = open_home(home)
    opened = Run.open(workspace, run)
    opened.extend(steps, schedule)
    stderr.print(describe_extensions(opened.config.training)[-1], highlight=False)
    print_and_follow(home, place, jobs, [(opened, launch.resume(jobs, workspace, opened))], wait)


def print_and_follow(home: Path | None, place: Home, jobs: Jobs, started: Sequence[tuple[Run, Job]], wait: bool) -> None:
    """Print the ids of the queued runs, and follow them if `wait`."""
    for run, _ in started:
        console.print(run.id, highlight=False)
    if wait:
        follow_all(home, place, jobs, started)
    else:
        worker.supervise(place, jobs)


def follow_all(home: Path | None, place: Home, jobs: Jobs, started: Sequence[tuple[Run, Job]]) -> None:
    """Follow each run to its end and print the file and reference of its LoRA. If one fails, the others still train; Ctrl-C stops all of them,
    with a checkpoint each."""
    failed, stopped = [], None
    for run, job in started:
        resume_command = f"python -m studio resume {run.id}" + (f" --home {shlex.quote(str(home))}" if home else "")
        if stopped and stopped.here:
            jobs.cancel(job.id)
        try:
            result = follow(place, jobs, job, resume_command=resume_command).result
            console.print(f"{run.latest_adapter()}\n{result['adapter']}", highlight=False)
        except Stopped as end:
            stopped = stopped if stopped and stopped.here else end
        except StudioError as error:
            failed.append(f"{run.title}: {error}" if len(started) > 1 else str(error))
    if failed:
        raise StudioError(" ".join(failed))
    if stopped:
        raise stopped
