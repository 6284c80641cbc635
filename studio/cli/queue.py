"""The queue from the command line: what runs, what waits, and in which order."""

from typing import Annotated

import typer

from studio.cli.terminal import HomeOption, console, open_home, table
from studio.core.errors import StudioError
from studio.core.workspace import Workspace
from studio.jobs.queue import MOVES, Jobs
from studio.jobs.table import Job
from studio.runs.run import Run

app = typer.Typer(invoke_without_command=True, help="List what runs and waits, and change the order.")
JobNumber = Annotated[int, typer.Argument(help="The job's number; `queue` lists them.")]


@app.callback()
def queue(context: typer.Context, home: HomeOption = None) -> None:
    """List what runs and what waits, in its order."""
    if context.invoked_subcommand is None:
        _, workspace, jobs = open_home(home)
        show(workspace, jobs)


@app.command()
def move(job: JobNumber, where: Annotated[str, typer.Argument(help=f"{', '.join(MOVES)}.")], home: HomeOption = None) -> None:
    """Put a waiting job in another place."""
    _, workspace, jobs = open_home(home)
    get_own_job(jobs, workspace, job)
    jobs.move(job, where)
    show(workspace, jobs)


@app.command()
def cancel(job: JobNumber, home: HomeOption = None) -> None:
    """Take a job out of the queue, or ask it to stop.

    A training that runs saves first; `resume` goes on with it, and begins one that was taken out.
    """
    _, workspace, jobs = open_home(home)
    if not get_own_job(jobs, workspace, job).unfinished:
        raise StudioError(f"Job {job} is over already; `queue` lists what runs and waits.")
    ended = jobs.cancel(job)
    console.print("It is asked to stop." if ended.unfinished else "Taken out of the queue.")


def get_own_job(jobs: Jobs, workspace: Workspace, job_id: int) -> Job:
    job = jobs.get(job_id)
    if job.owner != workspace.owner:
        raise StudioError(f"There is no job {job_id}; look at the list of jobs.")
    return job


def show(workspace: Workspace, jobs: Jobs) -> None:
    rows = []
    for job in jobs.queue():
        if job.owner == workspace.owner:
            run = Run.open(workspace, job.payload["run"]) if job.kind == "train" else None
            left = "" if job.seconds_left is None else f"{job.seconds_left:.0f} s left"
            far = f"{job.done}/{job.total}" if job.total else ""
            rows.append((str(job.id), job.state, job.kind, far, left, run.id if run else "", run.title if run else ""))
    if rows:
        table(("job", "state", "kind", "done", "left", "run", "title"), rows)
    else:
        console.print("Nothing runs or waits.")
