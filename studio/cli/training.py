"""Training from the command line: one run, several at once, one more like an earlier one, and going on with one."""

import shlex
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated

import typer

from studio import config as configs
from studio.cli.terminal import HomeOption, Stopped, console, follow, open_home
from studio.core.errors import StudioError
from studio.core.workspace import Home
from studio.datasets.dataset import Dataset
from studio.jobs import launch, worker
from studio.jobs.launch import TrainingRequest
from studio.jobs.queue import Job, Jobs
from studio.runs import starting_points, sweeps
from studio.runs.run import Run

OVERLAYS = [overlay.name.removeprefix("memory-") for overlay in configs.overlays()]
SETTINGS = "Settings such as lora.rank=8 training.max_train_steps=300; lora.rank=8,16,32 is three runs."
Settings = Annotated[list[str] | None, typer.Argument(help=SETTINGS)]
RunId = Annotated[str, typer.Argument(help="The run's id.")]
Wait = Annotated[bool, typer.Option("--wait/--no-wait", help="Stay until it is done, or only put it in the queue; `queue` shows how it goes.")]


def train(
    dataset: Annotated[str, typer.Argument(help="The dataset's id.")],
    overrides: Settings = None,
    preset: Annotated[str, typer.Option(help="A starting point instead of the one that fits the dataset; `show presets` lists them.")] = "",
    memory: Annotated[str, typer.Option(help=f"Make it fit a graphics card: {', '.join(OVERLAYS)}. Usually what is free decides.")] = "",
    title: Annotated[str, typer.Option(help="What to call the LoRA.")] = "",
    wait: Wait = True,
    home: HomeOption = None,
) -> None:
    """Train a LoRA on a dataset, or several with a value each.

    Ctrl-C stops it and saves first; `resume` goes on to the same bytes.
    """
    place, workspace, jobs = open_home(home)
    pictures = Dataset.open(workspace, dataset)
    several = sweeps.combinations(overrides or [])
    name = title or (pictures.title if len(several) > 1 else "")
    wanted = [
        TrainingRequest(starting_points.build_config(workspace, pictures, preset, *each.settings, memory=memory), each.named(name))
        for each in several
    ]
    print_and_follow(home, place, jobs, launch.train(workspace, jobs, pictures, wanted), wait)


def again(
    run: RunId,
    overrides: Settings = None,
    title: Annotated[str, typer.Option(help="What to call the LoRA; otherwise as the run, and what differs.")] = "",
    wait: Wait = True,
    home: HomeOption = None,
) -> None:
    """Train a new run with the settings and pictures of another.

    Apart from the settings that you name, and to the same bytes if you name none.
    """
    place, workspace, jobs = open_home(home)
    print_and_follow(home, place, jobs, launch.train_again(workspace, jobs, Run.open(workspace, run), overrides or [], title), wait)


def resume(run: RunId, home: HomeOption = None) -> None:
    """Go on with a run that was stopped or interrupted."""
    place, workspace, jobs = open_home(home)
    opened = Run.open(workspace, run)
    follow_all(home, place, jobs, [(opened, launch.resume(jobs, workspace, opened))])


def extend(
    run: RunId,
    steps: Annotated[int, typer.Argument(help="How many steps more.")],
    wait: Wait = True,
    home: HomeOption = None,
) -> None:
    """Train a finished run for more steps."""
    place, workspace, jobs = open_home(home)
    opened = Run.open(workspace, run)
    opened.extend(steps)
    print_and_follow(home, place, jobs, [(opened, launch.resume(jobs, workspace, opened))], wait)


def print_and_follow(home: Path | None, place: Home, jobs: Jobs, begun: Sequence[tuple[Run, Job]], wait: bool) -> None:
    """Say which runs were queued, and stay with them if that is wanted."""
    for run, _ in begun:
        console.print(run.id, highlight=False)
    if wait:
        follow_all(home, place, jobs, begun)
    else:
        worker.supervise(place, jobs)


def follow_all(home: Path | None, place: Home, jobs: Jobs, begun: Sequence[tuple[Run, Job]]) -> None:
    """Each run to its end, saying where its LoRA lies and what it is called in a stack. One that fails does not keep the others from
    learning; Ctrl-C stops them all, each saved."""
    failed, stopped = [], None
    for run, job in begun:
        resume_command = f"python -m studio resume {run.id}" + (f" --home {shlex.quote(str(home))}" if home else "")
        if stopped and stopped.here:
            jobs.cancel(job.id)
        try:
            result = follow(place, jobs, job, resume_command=resume_command).result
            console.print(f"{run.latest_adapter()}\n{result['adapter']}", highlight=False)
        except Stopped as end:
            stopped = stopped if stopped and stopped.here else end
        except StudioError as error:
            failed.append(f"{run.title}: {error}" if len(begun) > 1 else str(error))
    if failed:
        raise StudioError(" ".join(failed))
    if stopped:
        raise stopped
