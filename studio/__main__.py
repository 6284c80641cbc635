"""The same six nouns without a browser: `python -m studio --help`. Every long command is the same job that a page starts."""

import os
import sys
import time
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn

from studio import config as configs
from studio import library, worker
from studio.dataset import Dataset
from studio.doctor import examine
from studio.errors import StudioError, validated
from studio.jobs import DEVICE_KINDS, Job, Jobs
from studio.recipe import Recipe, StackEntry
from studio.release import Request, plan, save_folder, save_zip
from studio.runs import Run
from studio.workspace import Home

app = typer.Typer(no_args_is_help=True, add_completion=False, rich_markup_mode=None, help="Caption pictures, train a LoRA, try it, publish it.")
console = Console(markup=False, soft_wrap=True)
HomeOption = Annotated[Path | None, typer.Option("--home", help="The studio's folder; default: LORA_STUDIO_HOME or your data folder.")]


def open_home(home: Path | None):
    place = Home(home)
    return place, place.workspace("local"), Jobs(place.database)


def follow(home: Home, jobs: Jobs, job: Job, secret: bytes | None = None) -> Job:
    """Show a job's progress until it ends; Ctrl-C asks it to stop, and stopping a training saves it first."""
    if job.kind in DEVICE_KINDS:
        worker.ensure(home)
    else:
        jobs.start(job, secret)
    columns = (TextColumn("{task.description}"), BarColumn(), TextColumn("{task.completed:.0f}/{task.total:.0f}"), TimeRemainingColumn())
    with Progress(*columns, console=console, transient=True) as progress:
        bar = progress.add_task(job.kind, total=1)
        while job.state in ("waiting", "running"):
            try:
                time.sleep(0.1)
                job = jobs.get(job.id)
                progress.update(bar, completed=job.done or 0, total=max(job.total or 0, 1), description=job.message or job.kind)
            except KeyboardInterrupt:
                jobs.cancel(job.id)
    if job.state != "done":
        raise StudioError(job.error or f"The {job.kind} job ended as {job.state}.")
    return job


@app.command()
def dataset(
    title: Annotated[str, typer.Argument(help="What to call it; a sample set has a title already.")] = "",
    files: Annotated[list[Path] | None, typer.Argument(help="Pictures, .txt captions of the same name, or a .zip of both.")] = None,
    subject: Annotated[str, typer.Option(help="What the pictures share: style (unless said), character or object.")] = "",
    sample: Annotated[str | None, typer.Option(help="Take a shipped sample set instead of files: style or character.")] = None,
    trigger: Annotated[str, typer.Option(help="The rare word that will call the LoRA.")] = "",
    consent: Annotated[str, typer.Option(help="If a real person is shown: how they agreed. Goes onto the card.")] = "",
    home: HomeOption = None,
) -> None:
    """Make a dataset from pictures and captions, or from a sample set."""
    place, workspace, jobs = open_home(home)
    if sample:
        if files or subject or trigger or consent:
            raise StudioError("A sample set comes with its own pictures, captions, subject and trigger word; give --sample with a title at most.")
        made = Dataset.from_samples(workspace, sample)
        made.describe(title=title.strip())
        console.print(f"{made.id}\n{len(made.pictures)} pictures with captions.")
        return
    if not title.strip():
        raise StudioError('The dataset has no title; give one, for example: python -m studio dataset "Ink drawings" pictures.zip')
    made = Dataset.create(workspace, title, subject or "style", real_person=bool(consent), consent=consent)
    if trigger:
        made.set_trigger_word(trigger)
    listing = [{"path": str(path.resolve()), "name": path.name} for path in files or []]
    result = follow(place, jobs, jobs.submit("local", "import", {"dataset": made.id, "files": listing})).result
    console.print(f"{made.id}\n{result['added']} pictures and {result['captions']} captions added.")
    for refused in result["refused"]:
        console.print(f"  not used: {refused['name']}: {refused['reason']}")
    for note in result["notes"]:
        console.print(f"  {note}")


@app.command()
def caption(
    dataset: Annotated[str, typer.Argument(help="The dataset's id.")],
    captioner: Annotated[str, typer.Option(help="builtin, blip, blip-large, florence-2 or florence-2-large.")] = "builtin",
    every: Annotated[bool, typer.Option("--all", help="Also those that have a caption already; hand-made ones are always kept.")] = False,
    noun: Annotated[str, typer.Option(help="What the character or object is, in one word, such as dog: the trigger word takes its place.")] = "",
    home: HomeOption = None,
) -> None:
    """Write captions with a captioner. Hand-made captions are never overwritten."""
    place, _, jobs = open_home(home)
    job = jobs.submit("local", "caption", {"dataset": dataset, "captioner": captioner, "only_empty": not every, "class_noun": noun})
    result = follow(place, jobs, job).result
    console.print(f"{result['captioned']} pictures captioned, {result['kept']} kept as they were.")
    if result["failed"]:
        console.print(f"{result['failed']} pictures could not be read.")


@app.command()
def train(
    dataset: Annotated[str, typer.Argument(help="The dataset's id.")],
    overrides: Annotated[list[str] | None, typer.Argument(help="Settings such as lora.rank=8 training.max_train_steps=300.")] = None,
    preset: Annotated[str, typer.Option(help="A starting point instead of the one that fits the dataset; `show presets` lists them.")] = "",
    title: Annotated[str, typer.Option(help="What to call the LoRA.")] = "",
    home: HomeOption = None,
) -> None:
    """Train a LoRA on a dataset. Ctrl-C stops it and saves first; `resume` goes on to the same bytes."""
    place, workspace, jobs = open_home(home)
    pictures = Dataset.open(workspace, dataset)
    run = Run.create(workspace, configs.for_dataset(pictures, preset, *(overrides or [])), pictures, title)
    console.print(run.id)
    result = follow(place, jobs, jobs.submit("local", "train", {"run": run.id}, key=run.job_key)).result
    console.print(f"{run.latest_adapter()}\n{result}")


@app.command()
def resume(run: Annotated[str, typer.Argument(help="The run's id.")], home: HomeOption = None) -> None:
    """Go on with a run that was stopped or interrupted."""
    place, workspace, jobs = open_home(home)
    opened = Run.open(workspace, run)
    follow(place, jobs, jobs.submit("local", "train", {"run": opened.id}, key=opened.job_key))
    console.print(str(opened.latest_adapter()))


@app.command()
def generate(
    prompt: Annotated[str, typer.Argument(help="What to draw.")],
    out: Annotated[Path, typer.Option(help="Where to save the PNG; its recipe is inside.")] = Path("picture.png"),
    lora: Annotated[list[str] | None, typer.Option(help="A LoRA and its weight, such as starter:style=0.8; may be given again.")] = None,
    base: Annotated[str, typer.Option(help="The base model.")] = "lora-studio/small-world",
    seed: Annotated[int, typer.Option(help="The same seed and settings give the same picture.")] = 7,
    steps: Annotated[int, typer.Option(help="How carefully it is drawn.")] = 20,
    guidance: Annotated[float, typer.Option(help="How strictly the prompt is followed.")] = 5.0,
    home: HomeOption = None,
) -> None:
    """Draw a picture with a stack of LoRAs."""
    place, workspace, jobs = open_home(home)
    stack = []
    for entry in lora or []:
        ref, _, weight = entry.partition("=")
        card = library.find(workspace, ref)
        try:
            entry = StackEntry(adapter=card.ref, weight=float(weight or 1), title=card.title, sha256=card.sha256)
        except ValueError:
            raise StudioError(f"{weight!r} is not a weight for {ref}; give a number from -1 to 2, for example {ref}=0.8.") from None
        stack.append(entry.model_dump())
    wanted = {"prompt": prompt, "base_model": base, "stack": stack, "seed": seed, "num_inference_steps": steps, "guidance_scale": guidance}
    recipe = validated(Recipe, wanted)
    job = follow(place, jobs, jobs.submit("local", "generate", {"recipe": recipe.to_json(), "count": 1}))
    out.write_bytes(workspace.image_path(job.result["images"][0]).read_bytes())
    console.print(str(out))


@app.command()
def publish(
    adapter: Annotated[str, typer.Argument(help="One of your own LoRAs: run:<run id> or run:<run id>@<step>.")],
    repo: Annotated[str, typer.Argument(help="name or owner/name on the Hub.")],
    rights: Annotated[str, typer.Option(help="What gives you the right to publish this; it stands on the card.")],
    public: Annotated[bool, typer.Option("--public", help="Make it public once every byte was verified; otherwise it stays private.")] = False,
    licence: Annotated[str, typer.Option(help="The licence of the LoRA, as the Hub spells it.")] = "",
    title: Annotated[str, typer.Option(help="Title of the card.")] = "",
    update: Annotated[bool, typer.Option("--update", help="Add a new version to a repository this run was published to.")] = False,
    home: HomeOption = None,
) -> None:
    """Publish to the Hugging Face Hub, privately unless you say --public. Uses your login (`hf auth login`) or HF_TOKEN."""
    import huggingface_hub

    token = huggingface_hub.get_token()
    if not token:
        raise StudioError("You are not logged in to the Hub: run `hf auth login` first, or use `save` to get a folder or zip instead.")
    place, _, jobs = open_home(home)
    asked = {"adapter": adapter, "repo": repo, "private": not public, "rights": rights, "licence": licence, "title": title, "update": update}
    request = validated(Request, asked)
    job = jobs.submit("local", "publish", request.model_dump(), key=request.job_key)
    result = follow(place, jobs, job, secret=token.encode()).result
    console.print(f"{result['url']}\n{'private' if result['private'] else 'public'}, commit {result['commit']}")
    for note in result["notes"]:
        console.print(f"  {note}")


@app.command()
def save(
    adapter: Annotated[str, typer.Argument(help="One of your own LoRAs: run:<run id> or run:<run id>@<step>.")],
    out: Annotated[Path, typer.Argument(help="A new folder, or a file ending in .zip.")],
    rights: Annotated[str, typer.Option(help="What gives you the right to publish this; it stands on the card.")] = "",
    licence: Annotated[str, typer.Option(help="The licence of the LoRA, as the Hub spells it.")] = "",
    home: HomeOption = None,
) -> None:
    """Save a LoRA with its card and pictures as a folder or zip, just as it would be published. Needs no network."""
    _, workspace, _ = open_home(home)
    made = plan(workspace, validated(Request, {"adapter": adapter, "rights": rights, "licence": licence}))
    console.print(str(save_zip(made, out) if out.suffix == ".zip" else save_folder(made, out)))


@app.command()
def doctor() -> None:
    """What this computer can do, and the one command that fixes what it cannot."""
    findings = examine()
    for finding in findings:
        console.print(f"{finding.level}: {finding.message}" + (f"\n  {finding.fix}" if finding.fix else ""), highlight=False)
    if not findings:
        console.print("Everything the studio needs is here.")


@app.command()
def show(
    what: Annotated[str, typer.Argument(help="datasets, runs, adapters, presets or jobs.")],
    home: HomeOption = None,
) -> None:
    """List what there is."""
    place, workspace, jobs = open_home(home)
    listings = {
        "datasets": lambda: (("id", "title", "pictures"), [(d.id, d.title, str(len(d.pictures))) for d in Dataset.all(workspace)]),
        "runs": lambda: (("id", "title", "state"), [(r.id, r.title, r.state) for r in Run.all(workspace)]),
        "adapters": lambda: (("ref", "title", "rank"), [(c.ref, c.title, str(c.rank)) for c in library.list_adapters(workspace)]),
        "presets": lambda: (("name", "title", "measured"), [(p.name, p.title, p.measured) for p in configs.presets()]),
        "jobs": lambda: (("id", "kind", "state"), [(str(j.id), j.kind, j.state) for j in jobs.list("local")]),
    }
    if what not in listings:
        raise StudioError(f"There is nothing called {what!r} to list; choose one of {', '.join(listings)}.")
    columns, rows = listings[what]()
    if not rows:
        console.print(f"No {what} yet.")
        return
    # Plain columns: a table as wide as the terminal would cut ids, which people copy from here.
    widths = [max(map(len, column)) for column in zip(columns, *rows)]
    for line in (columns, *rows):
        console.print("  ".join(cell.ljust(width) for cell, width in zip(line, widths)).rstrip(), highlight=False)


def main() -> None:
    """A StudioError is a sentence for the person at the keyboard, not a traceback."""
    os.environ.setdefault("HF_HUB_DISABLE_TELEMETRY", "1")
    try:
        app(standalone_mode=True)
    except StudioError as error:
        Console(stderr=True, markup=False, soft_wrap=True).print(str(error), style="red", highlight=False)
        sys.exit(1)


if __name__ == "__main__":
    main()
