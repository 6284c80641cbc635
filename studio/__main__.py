"""The same six nouns without a browser: `python -m studio --help`. Every long command is the same job that a page starts."""

import os
import sys
from pathlib import Path
from typing import Annotated

import typer

from studio import bases, builtin, library, presets, queue_commands, training_commands, trash, worker
from studio import config as configs
from studio.captioning import CAPTIONERS
from studio.config import foreign, shipped
from studio.dataset import SUBJECTS, Dataset
from studio.doctor import examine
from studio.errors import StudioError, validated
from studio.jobs import Jobs
from studio.licensing import LICENCES
from studio.recipe import USUAL, Recipe
from studio.release import Request, plan, save_folder, save_zip
from studio.runs import Run
from studio.terminal import HomeOption, aside, console, follow, open_home, table
from studio.workspace import Home

app = typer.Typer(no_args_is_help=True, add_completion=False, rich_markup_mode=None, help="Caption pictures, train a LoRA, try it, publish it.")
MAKERS = "Unsaid, as the base's makers recommend."
Pictures = Annotated[list[Path] | None, typer.Argument(help="Pictures, .txt captions of the same name, or a .zip of both.")]
LicenceOption = Annotated[str, typer.Option(help=f"Its licence by the Hub's id; base is that of its base: {', '.join(filter(None, LICENCES))}.")]
LicenceName = Annotated[str, typer.Option(help="What the licence is called, for --licence other.")]
LicenceLink = Annotated[str, typer.Option(help="Where it can be read, for --licence other.")]
BaseLicence = Annotated[str, typer.Option(help="Licence of the base, where the studio does not know it.")]


def of_recipe(name: str, unsaid: str = ""):
    """An option that says of itself what the recipe says; `unsaid` is what happens without it."""
    return typer.Option(help=f"{Recipe.model_fields[name].description} {unsaid}".strip())


def check_target(path: Path) -> None:
    """Before the work, not after it: whether there is a place to save its result."""
    folder = path.absolute().parent
    if not folder.is_dir():
        raise StudioError(f"There is no folder {str(folder)!r} to save {path.name!r} in; make it first, or choose another.")


@app.command()
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
        made.describe(title=title.strip())
        console.print(f"{made.id}\n{len(made.pictures)} pictures with captions.")
        return
    if not title.strip():
        raise StudioError('The dataset has no title; give one, for example: python -m studio dataset "Ink drawings" pictures.zip')
    made = Dataset.create(workspace, title, subject or SUBJECTS[0], real_person=bool(consent), consent=consent)
    if trigger:
        made.set_trigger_word(trigger)
    console.print(made.id, highlight=False)
    bring(place, jobs, made, files or [])


@app.command()
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


@app.command()
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


for command in (training_commands.train, training_commands.again, training_commands.resume, training_commands.extend):
    app.command()(command)
app.add_typer(queue_commands.app, name="queue")


@app.command()
def lora(
    source: Annotated[str, typer.Argument(help="A .safetensors file, or owner/name on the Hub.")],
    revision: Annotated[str, typer.Option(help="From the Hub: which version, a branch, a tag or a commit. Empty takes the newest.")] = "",
    file: Annotated[str, typer.Option(help="From the Hub: which file, where the repository has several.")] = "",
    home: HomeOption = None,
) -> None:
    """Bring a LoRA from a file or from the Hugging Face Hub.

    It is printed by the name that `generate --lora` takes. For a private repository your login (`hf auth login`) or HF_TOKEN is used.
    """
    place, workspace, jobs = open_home(home)
    path, secret = Path(source).expanduser(), None
    if path.is_file() or path.is_absolute() or path.suffix == ".safetensors" or source.startswith(".") or "\\" in source:
        if revision or file:
            raise StudioError(f"--revision and --file are for the Hub, and {source!r} is a file on this computer; leave them out.")
        if not path.is_file():
            raise StudioError(f"There is no file {source!r}; give the path of a .safetensors file, or owner/name on the Hub.")
        job = jobs.submit("local", "adapter", {"files": [{"path": str(path.resolve()), "name": path.name}]})
    else:
        import huggingface_hub

        secret = (huggingface_hub.get_token() or "").encode()
        job = jobs.submit("local", "download", {"repo_id": source, "revision": revision or None, "filename": file or None})
    result = follow(place, jobs, job, secret).result
    for refused in result["refused"]:
        raise StudioError(refused["reason"])
    card = library.find(workspace, result["adapters"][0])
    words = f", trigger word: {', '.join(card.trigger_words)}" if card.trigger_words else ""
    console.print(f"{card.ref}\n{card.title}, rank {card.rank}{words}", highlight=False)


@app.command()
def generate(
    prompt: Annotated[str, typer.Argument(help="What to draw.")],
    out: Annotated[Path, typer.Option(help="Where to save the PNG; its recipe is inside. Of several, -1, -2 and so on.")] = Path("picture.png"),
    lora: Annotated[list[str] | None, typer.Option(help="A LoRA and its weight, such as starter:style=0.8; may be given again.")] = None,
    negative: Annotated[str, of_recipe("negative_prompt")] = USUAL.negative_prompt,
    base: Annotated[str, of_recipe("base_model")] = USUAL.base_model,
    revision: Annotated[str, of_recipe("revision")] = "",
    seed: Annotated[int, of_recipe("seed")] = USUAL.seed,
    count: Annotated[int, typer.Option(min=1, max=worker.MOST_PICTURES, help="How many pictures: with this seed and the ones after it.")] = 1,
    steps: Annotated[int | None, of_recipe("num_inference_steps", MAKERS)] = None,
    guidance: Annotated[float | None, of_recipe("guidance_scale", MAKERS)] = None,
    width: Annotated[int | None, of_recipe("width")] = None,
    height: Annotated[int | None, of_recipe("height")] = None,
    home: HomeOption = None,
) -> None:
    """Draw pictures with a stack of LoRAs."""
    check_target(out)
    if out.is_dir():
        raise StudioError(f"{str(out)!r} is a folder; say which file in it the picture goes to, for example {str(out / 'picture.png')!r}.")
    place, workspace, jobs = open_home(home)
    stack = []
    for entry in lora or []:
        ref, _, weight = entry.partition("=")
        try:
            strength = float(weight or 1)
        except ValueError:
            raise StudioError(f"{weight!r} is not a weight for {ref}; give a number from -1 to 2, for example {ref}=0.8.") from None
        stack.append(library.stack_entry(workspace, ref, strength).model_dump())
    wanted = {
        "prompt": prompt,
        "negative_prompt": negative,
        "base_model": base,
        "revision": revision or None,
        "stack": stack,
        "seed": seed,
        "width": width,
        "height": height,
        **bases.look_up(base, revision or None).drawn(steps, guidance),
    }
    recipe = validated(Recipe, wanted)
    result = follow(place, jobs, jobs.submit("local", "generate", {"recipe": recipe.to_json(), "count": count})).result
    for number, image in enumerate(result["images"], 1):
        target = out if count == 1 else out.with_stem(f"{out.stem}-{number}")
        target.write_bytes(workspace.image_path(image).read_bytes())
        console.print(str(target), highlight=False)
    for note in result["notes"]:
        console.print(f"  {note}")


@app.command()
def publish(
    adapter: Annotated[str, typer.Argument(help="One of your own LoRAs: run:<run id> or run:<run id>@<step>.")],
    repo: Annotated[str, typer.Argument(help="name or owner/name on the Hub.")],
    rights: Annotated[str, typer.Option(help="What gives you the right to publish this; it stands on the card.")],
    public: Annotated[bool, typer.Option("--public", help="Make it public once every byte was verified; otherwise it stays private.")] = False,
    licence: LicenceOption = "",
    licence_name: LicenceName = "",
    licence_link: LicenceLink = "",
    base_licence: BaseLicence = "",
    title: Annotated[str, typer.Option(help="Title of the card.")] = "",
    update: Annotated[bool, typer.Option("--update", help="Add a new version to a repository this run was published to.")] = False,
    home: HomeOption = None,
) -> None:
    """Publish a LoRA with its card to the Hugging Face Hub.

    It stays private unless you say --public. Your login (`hf auth login`) or HF_TOKEN is used.
    """
    import huggingface_hub

    token = huggingface_hub.get_token()
    if not token:
        raise StudioError("You are not logged in to the Hub: run `hf auth login` first, or use `save` to get a folder or zip instead.")
    place, _, jobs = open_home(home)
    named = {"licence": licence, "licence_name": licence_name, "licence_link": licence_link, "base_licence": base_licence}
    asked = {"adapter": adapter, "repo": repo, "private": not public, "rights": rights, **named, "title": title, "update": update}
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
    licence: LicenceOption = "",
    licence_name: LicenceName = "",
    licence_link: LicenceLink = "",
    base_licence: BaseLicence = "",
    home: HomeOption = None,
) -> None:
    """Save a LoRA with its card and pictures as a folder or zip.

    They are the files that `publish` would send. Needs no network.
    """
    check_target(out)
    _, workspace, _ = open_home(home)
    named = {"licence": licence, "licence_name": licence_name, "licence_link": licence_link, "base_licence": base_licence}
    made = plan(workspace, validated(Request, {"adapter": adapter, "rights": rights, **named}))
    console.print(str(save_zip(made, out) if out.suffix == ".zip" else save_folder(made, out)))


@app.command()
def settings(
    file: Annotated[Path, typer.Argument(help=f"A settings file: {', '.join(foreign.ENDINGS)}.")],
    save: Annotated[str, typer.Option(help="Keep them as a preset of this name, for `train --preset mine:...`.")] = "",
    replace: Annotated[bool, typer.Option("--replace", help="Overwrite a preset of that name.")] = False,
    home: HomeOption = None,
) -> None:
    """Read training settings from a file and say what became of each.

    A run's config.json, a preset, a LoRA made by this studio, kohya's .toml or ai-toolkit's .yaml.
    """
    if not file.is_file():
        raise StudioError(f"There is no file {str(file)!r}; give the path of a settings file or of a LoRA.")
    found = foreign.read(file)
    for path, value in found.values.items():
        console.print(f"{path} = {value}", highlight=False)
    for left in sorted(found.left, key=lambda each: not each.matters):
        aside.print(f"  {'not taken' if left.matters else 'not needed'}: {left}", highlight=False)
    if save:
        _, workspace, _ = open_home(home)
        base, subject = found.values.get("model.base_model", ""), found.values.get("dataset.subject", SUBJECTS[0])
        start = configs.preset(configs.fitting_preset(subject, base))
        kept = presets.save(workspace, save, foreign.onto(start, found), replace=replace, suggest=shipped.STEPS not in found.values)
        console.print(kept.name, highlight=False)


@app.command()
def doctor() -> None:
    """Say what this computer can do, and what fixes the rest."""
    for finding in examine():
        console.print(f"{finding.level}: {finding.message}" + (f"\n  {finding.fix}" if finding.fix else ""), highlight=False)


@app.command()
def restore(removed: Annotated[str, typer.Argument(help="Its id; `show removed` lists them.")], home: HomeOption = None) -> None:
    """Put a removed dataset or run back."""
    _, workspace, _ = open_home(home)
    console.print(workspace.restore(removed).name)


@app.command()
def show(
    what: Annotated[str, typer.Argument(help="datasets, runs, adapters (the LoRAs), presets, jobs or removed (what can be put back).")],
    home: HomeOption = None,
) -> None:
    """List datasets, runs, LoRAs, presets, jobs or removed things."""
    place, workspace, jobs = open_home(home)
    listings = {
        "datasets": lambda: (("id", "title", "pictures"), [(d.id, d.title, str(len(d.pictures))) for d in Dataset.all(workspace)]),
        "runs": lambda: (("id", "title", "state"), [(r.id, r.title, r.state) for r in Run.all(workspace)]),
        "adapters": lambda: (
            ("ref", "title", "rank", "made for"),
            [(c.ref, c.title, str(c.rank), c.made_for) for c in library.list_adapters(workspace)],
        ),
        "presets": lambda: (
            ("name", "title", "measured"),
            [(p.name, p.title, p.measured) for p in (*presets.own(workspace), *configs.presets())],
        ),
        "jobs": lambda: (("id", "kind", "state"), [(str(j.id), j.kind, j.state) for j in jobs.list("local")]),
        "removed": lambda: (("id", "title"), [(each.id, title) for each, title in trash.removed(workspace)]),
    }
    if what not in listings:
        raise StudioError(f"There is nothing called {what!r} to list; choose one of {', '.join(listings)}.")
    columns, rows = listings[what]()
    if not rows:
        console.print(f"No {what} yet." if what != "removed" else "Nothing that could be put back.")
        return
    table(columns, rows)


def main() -> None:
    """What the studio or the disk refuses is a sentence for the person at the keyboard, not a traceback."""
    os.environ.setdefault("HF_HUB_DISABLE_TELEMETRY", "1")
    try:
        app(standalone_mode=True)
    except StudioError as error:
        complain(str(error))
    except OSError as error:
        complain(f"The computer refused this: {error}. Choose another place, or make room, and try again.")


def complain(sentence: str) -> None:
    aside.print(sentence, style="red", highlight=False)
    sys.exit(1)


if __name__ == "__main__":
    main()
