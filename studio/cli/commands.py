"""The same six nouns without a browser: `python -m studio --help`. Every long command is the same job that a page starts."""

import os
import sys
from pathlib import Path
from typing import Annotated

import typer

from studio import config as configs
from studio.cli import datasets, publishing, queue, training
from studio.cli.terminal import HomeOption, aside, check_target, console, follow, open_home, table
from studio.config import foreign, shipped_presets
from studio.config.recipe import DEFAULT_RECIPE, Recipe
from studio.core.errors import StudioError, validated
from studio.datasets.dataset import SUBJECTS, Dataset
from studio.doctor import examine
from studio.families import bases
from studio.jobs import worker
from studio.runs import library, starting_points, trash
from studio.runs.run import Run

app = typer.Typer(no_args_is_help=True, add_completion=False, rich_markup_mode=None, help="Caption pictures, train a LoRA, try it, publish it.")
MAKERS = "Unsaid, as the base's makers recommend."


def of_recipe(name: str, unsaid: str = ""):
    """An option that says of itself what the recipe says; `unsaid` is what happens without it."""
    return typer.Option(help=f"{Recipe.model_fields[name].description} {unsaid}".strip())


for command in (
    datasets.dataset,
    datasets.add,
    datasets.caption,
    training.train,
    training.again,
    training.resume,
    training.extend,
):
    app.command()(command)
app.add_typer(queue.app, name="queue")


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
    negative: Annotated[str, of_recipe("negative_prompt")] = DEFAULT_RECIPE.negative_prompt,
    base: Annotated[str, of_recipe("base_model")] = DEFAULT_RECIPE.base_model,
    revision: Annotated[str, of_recipe("revision")] = "",
    seed: Annotated[int, of_recipe("seed")] = DEFAULT_RECIPE.seed,
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
        **bases.get_base(base, revision or None).sampling_settings(steps, guidance),
    }
    recipe = validated(Recipe, wanted)
    result = follow(place, jobs, jobs.submit("local", "generate", {"recipe": recipe.to_json(), "count": count})).result
    for number, image in enumerate(result["images"], 1):
        target = out if count == 1 else out.with_stem(f"{out.stem}-{number}")
        target.write_bytes(workspace.image_path(image).read_bytes())
        console.print(str(target), highlight=False)
    for note in result["notes"]:
        console.print(f"  {note}")


app.command()(publishing.publish)
app.command()(publishing.save)


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
    for left in sorted(found.skipped, key=lambda each: not each.matters):
        aside.print(f"  {'not taken' if left.matters else 'not needed'}: {left}", highlight=False)
    if save:
        _, workspace, _ = open_home(home)
        base, subject = found.values.get("model.base_model", ""), found.values.get("dataset.subject", SUBJECTS[0])
        start = configs.preset(configs.fitting_preset(subject, base))
        kept = starting_points.save(workspace, save, foreign.apply(start, found), replace=replace, suggest=shipped_presets.STEPS not in found.values)
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
        "datasets": lambda: (("id", "title", "pictures"), [(d.id, d.title, str(len(d.images))) for d in Dataset.all(workspace)]),
        "runs": lambda: (("id", "title", "state"), [(r.id, r.title, r.state) for r in Run.all(workspace)]),
        "adapters": lambda: (
            ("ref", "title", "rank", "made for"),
            [(c.ref, c.title, str(c.rank), c.made_for) for c in library.list_adapters(workspace)],
        ),
        "presets": lambda: (
            ("name", "title", "measured"),
            [(p.name, p.title, p.measured) for p in (*starting_points.own(workspace), *configs.presets())],
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
