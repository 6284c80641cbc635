"""Datasets from the command line: made from files or a sample set, added to, captioned."""

from pathlib import Path
from typing import Annotated

import typer

from studio import builtin
from studio.cli.terminal import HomeOption, console, follow, open_home
from studio.core.errors import StudioError
from studio.core.workspace import Home
from studio.datasets.captioners import CAPTIONERS
from studio.datasets.dataset import SUBJECTS, Dataset
from studio.jobs.queue import Jobs

Pictures = Annotated[list[Path] | None, typer.Argument(help="Pictures, .txt captions of the same name, or a .zip of both.")]


def dataset(
    title: Annotated[str, typer.Argument(help="What to call it; a sample set has a title already.")] = "",
    files: Pictures = None,
    subject: Annotated[str, typer.Option(help=f"What the pictures share: {', '.join(SUBJECTS)}; {SUBJECTS[0]} unless said.")] = "",
    sample: Annotated[str | None, typer.Option(help=f"Take a shipped sample set instead of files: {', '.join(builtin.SAMPLES)}.")] = None,
    trigger: Annotated[str, typer.Option(help="The rare word that will call the LoRA.")] = "",
    consent: Annotated[str, typer.Option(help="If a real person is shown: how they agreed. Goes onto the card.")] = "",
    home: HomeOption = None,
) -> None:
    """Make a dataset from pictures and captions, or from a sample set.

    A grey file called name-mask.png is the mask of name.png: only the light parts teach.
    """
    place, workspace, jobs = open_home(home)
    if sample:
        if files or subject or trigger or consent:
            raise StudioError("A sample set comes with its own pictures, captions, subject and trigger word; give --sample with a title at most.")
        made = Dataset.from_samples(workspace, sample)
        made.update_facts(title=title.strip())
        console.print(f"{made.id}\n{len(made.images)} pictures with captions.")
        return
    if not title.strip():
        raise StudioError('The dataset has no title; give one, for example: python -m studio dataset "Ink drawings" pictures.zip')
    made = Dataset.create(workspace, title, subject or SUBJECTS[0], real_person=bool(consent), consent=consent)
    if trigger:
        made.set_trigger_word(trigger)
    console.print(made.id, highlight=False)
    bring(place, jobs, made, files or [])


def add(
    dataset: Annotated[str, typer.Argument(help="The dataset's id.")],
    files: Pictures,
    home: HomeOption = None,
) -> None:
    """Add pictures and captions to a dataset.

    A grey file called name-mask.png is the mask of name.png: only the light parts teach.
    """
    place, workspace, jobs = open_home(home)
    bring(place, jobs, Dataset.open(workspace, dataset), files)


def bring(place: Home, jobs: Jobs, dataset: Dataset, files: list[Path]) -> None:
    """Add files to a dataset, and say what came of each."""
    listing = [{"path": str(path.resolve()), "name": path.name} for path in files]
    result = follow(place, jobs, jobs.submit("local", "import", {"dataset": dataset.id, "files": listing})).result
    masks = f", {result['masks']} masks" if result["masks"] else ""
    console.print(f"{result['added']} pictures and {result['captions']} captions{masks} added.")
    for refused in result["refused"]:
        console.print(f"  not used: {refused['name']}: {refused['reason']}")
    for note in result["notes"]:
        console.print(f"  {note}")


def caption(
    dataset: Annotated[str, typer.Argument(help="The dataset's id.")],
    captioner: Annotated[str, typer.Option(help=f"{', '.join(CAPTIONERS)}.")] = next(iter(CAPTIONERS)),
    every: Annotated[bool, typer.Option("--all", help="Also those that have a caption already; hand-made ones are always kept.")] = False,
    noun: Annotated[str, typer.Option(help="What the character or object is, in one word, such as dog: the trigger word takes its place.")] = "",
    home: HomeOption = None,
) -> None:
    """Write captions with a captioner.

    Captions that a person wrote or brought are never overwritten.
    """
    place, _, jobs = open_home(home)
    job = jobs.submit("local", "caption", {"dataset": dataset, "captioner": captioner, "only_empty": not every, "class_noun": noun})
    result = follow(place, jobs, job).result
    console.print(f"{result['captioned']} pictures captioned, {result['kept']} kept as they were.")
    if result["failed"]:
        console.print(f"{result['failed']} pictures could not be read.")
