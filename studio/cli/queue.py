"""Queue commands: list, reorder and cancel jobs."""

from typing import Annotated

import typer

from studio.cli.terminal import HomeOption, console, open_home, table
from studio.core.errors import StudioError
from studio.core.workspace import Workspace
from studio.jobs.queue import MOVES, Jobs
from studio.jobs.table import Job
from studio.runs.run import Run

app = typer.Typer(invoke_without_command=True, help="List running and waiting jobs, and change their order.")
JobNumber = Annotated[int, typer.Argument(help="Job number; `queue` lists them.")]


@app.callback()
def queue(context: typer.Context, home: HomeOption = None) -> None:
    """List running and waiting jobs in queue order."""
    if context.invoked_subcommand is None:
        _, workspace, jobs = open_home(home)
        show(workspace, jobs)


@app.command()
def move(job: JobNumber, where: Annotated[str, typer.Argument(help=f"{', '.join(MOVES)}.")], home: HomeOption = None) -> None:
    """Move a waiting job."""
    _, workspace, jobs = open_home(home)
    get_own_job(jobs, workspace, job)
    jobs.move(job, where)
    show(workspace, jobs)


@app.command()
def cancel(job: JobNumber, home: HomeOption = None) -> None:
    """Cancel a waiting job, or stop a running one.

    A running training job saves a checkpoint first. `resume` continues it, and starts one that was cancelled.
    """
    _, workspace, jobs = open_home(home)
    if not get_own_job(jobs, workspace, job).unfinished:
        raise StudioError(f"Job {job} has already ended; `queue` lists running and waiting jobs.")
    cancelled = jobs.cancel(job)
    console.print("Stopping." if cancelled.unfinished else "Cancelled.")


def get_own_job(jobs: Jobs, workspace: Workspace, job_id: int) -> Job:
    job = jobs.get(job_id)
    if job.owner != workspace.owner:
        raise StudioError(f"There is no job {job_id}; `queue` lists running and waiting jobs.")
    return job


def show(workspace: Workspace, jobs: Jobs) -> None:
    rows = []
    for job in jobs.queue():
        if job.owner == workspace.owner:
            run = Run.open(workspace, job.payload["run"]) if job.kind == "train" else None
            left = "" if job.seconds_left is None else f"{job.seconds_left:.0f} s left"
            steps = f"{job.done}/{job.total}" if job.total else ""
            rows.append((str(job.id), job.state, job.kind, steps, left, run.id if run else "", run.title if run else ""))
    if rows:
        table(("job", "state", "kind", "done", "left", "run", "title"), rows)
    else:
        console.print("No running or waiting jobs.")
