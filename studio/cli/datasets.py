"""Dataset commands: create, add files, caption."""

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

FILES = typer.Argument(help="Images, .txt captions with the same name, or a .zip of both.")


def dataset(
    title: Annotated[str, typer.Argument(help="Title; optional with --sample.")] = "",
    files: Annotated[list[Path] | None, FILES] = None,
    subject: Annotated[str, typer.Option(help=f"Subject of the images: {', '.join(SUBJECTS)}; default: {SUBJECTS[0]}.")] = "",
    sample: Annotated[str | None, typer.Option(help=f"Use a built-in sample set instead of files: {', '.join(builtin.SAMPLES)}.")] = None,
    trigger: Annotated[str, typer.Option(help="Trigger word: a rare word that activates the LoRA in a prompt.")] = "",
    consent: Annotated[str, typer.Option(help="If the images show a real person: how they gave consent. Printed on the model card.")] = "",
    home: HomeOption = None,
) -> None:
    """Create a dataset from images and captions, or from a sample set.

    A greyscale file named name-mask.png is the mask of name.png: only its light areas are trained on.
    """
    place, workspace, jobs = open_home(home)
    if sample:
        if files or subject or trigger or consent:
            raise StudioError("A sample set has its own images, captions, subject and trigger word; give only --sample and a title.")
        created = Dataset.from_samples(workspace, sample)
        created.update_facts(title=title.strip())
        console.print(f"{created.id}\n{len(created.images)} images with captions.")
        return
    if not title.strip():
        raise StudioError('The dataset has no title; give one, for example: python -m studio dataset "Ink drawings" images.zip')
    created = Dataset.create(workspace, title, subject or SUBJECTS[0], real_person=bool(consent), consent=consent)
    if trigger:
        created.set_trigger_word(trigger)
    console.print(created.id, highlight=False)
    import_files(place, jobs, created, files or [])


def add(
    dataset: Annotated[str, typer.Argument(help="Id of the dataset.")],
    files: Annotated[list[Path], FILES],
    home: HomeOption = None,
) -> None:
    """Add images and captions to a dataset.

    A greyscale file named name-mask.png is the mask of name.png: only its light areas are trained on.
    """
    place, workspace, jobs = open_home(home)
    import_files(place, jobs, Dataset.open(workspace, dataset), files)


def import_files(place: Home, jobs: Jobs, dataset: Dataset, files: list[Path]) -> None:
    """Import files into a dataset and print the result."""
    listing = [{"path": str(path.resolve()), "name": path.name} for path in files]
    result = follow(place, jobs, jobs.submit("local", "import", {"dataset": dataset.id, "files": listing})).result
    masks = f", {result['masks']} masks" if result["masks"] else ""
    console.print(f"{result['added']} images and {result['captions']} captions{masks} added.")
    for refused in result["refused"]:
        console.print(f"  not used: {refused['name']}: {refused['reason']}")
    for note in result["notes"]:
        console.print(f"  {note}")


def caption(
    dataset: Annotated[str, typer.Argument(help="Id of the dataset.")],
    captioner: Annotated[str, typer.Option(help=f"{', '.join(CAPTIONERS)}.")] = next(iter(CAPTIONERS)),
    every: Annotated[
        bool, typer.Option("--all", help="Also replace captions written by a captioner; captions written by hand are always kept.")
    ] = False,
    noun: Annotated[str, typer.Option(help="Class noun of the character or object, for example dog; the trigger word replaces it.")] = "",
    home: HomeOption = None,
) -> None:
    """Write captions with a captioner.

    Captions that you wrote or imported are never overwritten.
    """
    place, _, jobs = open_home(home)
    job = jobs.submit("local", "caption", {"dataset": dataset, "captioner": captioner, "only_empty": not every, "class_noun": noun})
    result = follow(place, jobs, job).result
    console.print(f"{result['captioned']} images captioned, {result['kept']} unchanged.")
    if result["failed"]:
        console.print(f"{result['failed']} images could not be read.")
    if result["unknown"]:
        console.print(f"{result['unknown']} images are not known to this captioner and were left empty; try another one.")
    if result["shortened"]:
        console.print(f"{result['shortened']} captions repeated themselves and were shortened.")
