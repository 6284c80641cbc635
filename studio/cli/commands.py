"""Command line: `python -m studio --help`. Long commands run the same jobs as the page."""

import os
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Annotated

import typer

from studio import config as configs
from studio.cli import datasets, publishing, queue, training
from studio.cli.terminal import HomeOption, check_target, console, follow, open_home, stderr, table
from studio.config import foreign, shipped_presets
from studio.config.recipe import DEFAULT_RECIPE, DEFAULT_STRENGTH, Recipe
from studio.core.errors import StudioError, validated
from studio.core.logging import configure
from studio.datasets.dataset import SUBJECTS, Dataset
from studio.doctor import examine
from studio.families import bases
from studio.generation.images import MAX_IMAGES
from studio.generation.init_images import keep_init_image
from studio.runs import damage, library, starting_points, trash
from studio.runs.run import Run

app = typer.Typer(
    no_args_is_help=True, add_completion=False, rich_markup_mode=None, help="Caption images, train a LoRA, generate with it, publish it."
)
DEFAULT_OF_BASE = "Default: as recommended for the base model."


def recipe_option(name: str, default: str = ""):
    """An option with the recipe's description as help text; `default` describes the value used without it."""
    return typer.Option(help=f"{Recipe.model_fields[name].description} {default}".strip())


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
    revision: Annotated[str, typer.Option(help="Branch, tag or commit on the Hub; default: the newest version.")] = "",
    file: Annotated[str, typer.Option(help="File in the Hub repository, if it has several.")] = "",
    home: HomeOption = None,
) -> None:
    """Import a LoRA from a file or from the Hugging Face Hub.

    Prints its reference for `generate --lora`. For a private repository your login (`hf auth login`) or HF_TOKEN is used.
    """
    place, workspace, jobs = open_home(home)
    path, secret = Path(source).expanduser(), None
    if path.is_file() or path.is_absolute() or path.suffix == ".safetensors" or source.startswith(".") or "\\" in source:
        if revision or file:
            raise StudioError(f"--revision and --file apply only to the Hub, and {source!r} is a local file; remove these options.")
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
    adapter = library.find(workspace, result["adapters"][0])
    trigger = f", trigger word: {', '.join(adapter.trigger_words)}" if adapter.trigger_words else ""
    console.print(f"{adapter.ref}\n{adapter.title}, rank {adapter.rank}{trigger}", highlight=False)


@app.command()
def generate(
    prompt: Annotated[str, typer.Argument(help="Text prompt.")],
    out: Annotated[Path, typer.Option(help="Output PNG, with the recipe in its metadata; several images get the suffixes -1, -2, ...")] = Path(
        "picture.png"
    ),
    lora: Annotated[list[str] | None, typer.Option(help="A LoRA and its weight, for example starter:style=0.8; repeat for several.")] = None,
    negative: Annotated[str, recipe_option("negative_prompt")] = DEFAULT_RECIPE.negative_prompt,
    base: Annotated[str, recipe_option("base_model")] = DEFAULT_RECIPE.base_model,
    revision: Annotated[str, recipe_option("revision")] = "",
    seed: Annotated[int, recipe_option("seed")] = DEFAULT_RECIPE.seed,
    count: Annotated[int, typer.Option(min=1, max=MAX_IMAGES, help="Number of images, with consecutive seeds from --seed on.")] = 1,
    steps: Annotated[int | None, recipe_option("num_inference_steps", DEFAULT_OF_BASE)] = None,
    guidance: Annotated[float | None, recipe_option("guidance_scale", DEFAULT_OF_BASE)] = None,
    width: Annotated[int | None, recipe_option("width")] = None,
    height: Annotated[int | None, recipe_option("height")] = None,
    init_image: Annotated[Path | None, typer.Option(help="Image that generation begins from.")] = None,
    strength: Annotated[float | None, recipe_option("strength", f"Default: {DEFAULT_STRENGTH}.")] = None,
    home: HomeOption = None,
) -> None:
    """Generate images with a stack of LoRAs."""
    check_target(out)
    if out.is_dir():
        raise StudioError(f"{str(out)!r} is a folder; give a file name, for example {str(out / 'image.png')!r}.")
    if strength is not None and init_image is None:
        raise StudioError("--strength applies to an init image; give one with --init-image, or leave it out.")
    if init_image and not init_image.is_file():
        raise StudioError(f"There is no file {str(init_image)!r}; give the path of an image.")
    place, workspace, jobs = open_home(home)
    stack = []
    for entry in lora or []:
        ref, _, weight = entry.partition("=")
        try:
            value = float(weight or 1)
        except ValueError:
            raise StudioError(f"{weight!r} is not a valid weight for {ref}; give a number from -1 to 2, for example {ref}=0.8.") from None
        stack.append(library.stack_entry(workspace, ref, value).model_dump())
    values = {
        "prompt": prompt,
        "negative_prompt": negative,
        "base_model": base,
        "revision": revision or None,
        "stack": stack,
        "seed": seed,
        "width": width,
        "height": height,
        "init_image": keep_init_image(workspace, init_image) if init_image else None,
        "strength": strength,
        **bases.get_base(base, revision or None).sampling_settings(steps, guidance),
    }
    recipe = validated(Recipe, values)
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
    save: Annotated[str, typer.Option(help="Save them as a preset with this title, for `train --preset mine:...`.")] = "",
    replace: Annotated[bool, typer.Option("--replace", help="Overwrite an existing preset.")] = False,
    home: HomeOption = None,
) -> None:
    """Convert training settings from a file.

    Reads a run's config.json, a preset, a LoRA trained by this studio, kohya's .toml or ai-toolkit's .yaml. Settings that cannot be converted are
    listed.
    """
    if not file.is_file():
        raise StudioError(f"There is no file {str(file)!r}; give the path of a settings file or of a LoRA.")
    found = foreign.read(file)
    for path, value in found.values.items():
        console.print(f"{path} = {value}", highlight=False)
    for left in sorted(found.skipped, key=lambda each: not each.matters):
        stderr.print(f"  {'not taken' if left.matters else 'not needed'}: {left}", highlight=False)
    if save:
        _, workspace, _ = open_home(home)
        base, subject = found.values.get("model.base_model", ""), found.values.get("dataset.subject", SUBJECTS[0])
        start = configs.preset(configs.fitting_preset(subject, base))
        kept = starting_points.save(workspace, save, foreign.apply(start, found), replace=replace, suggest=shipped_presets.STEPS not in found.values)
        console.print(kept.name, highlight=False)


@app.command()
def doctor() -> None:
    """Check this computer and the installation."""
    for finding in examine():
        console.print(f"{finding.level}: {finding.message}" + (f"\n  {finding.fix}" if finding.fix else ""), highlight=False)


@app.command()
def restore(removed: Annotated[str, typer.Argument(help="Id of the removed item; see `show removed`.")], home: HomeOption = None) -> None:
    """Restore a removed dataset, run, LoRA, preset or image."""
    _, workspace, _ = open_home(home)
    console.print(workspace.restore(removed).name)


@app.command()
def show(
    what: Annotated[str, typer.Argument(help="datasets, runs, adapters (LoRAs), presets, jobs or removed (items that can be restored).")],
    home: HomeOption = None,
) -> None:
    """List datasets, runs, LoRAs, presets, jobs or removed items."""
    place, workspace, jobs = open_home(home)
    listings: dict[str, Callable[[], tuple[tuple[str, ...], Sequence[tuple[str, ...]]]]] = {
        "datasets": lambda: (("id", "title", "images"), [(d.id, d.title, str(len(d.images))) for d in Dataset.all(workspace)]),
        "runs": lambda: (("id", "title", "state"), [(r.id, r.title, r.state) for r in Run.all(workspace)]),
        "adapters": lambda: (
            ("ref", "title", "rank", "made for"),
            [(c.ref, c.title, str(c.rank), c.made_for) for c in library.list_adapters(workspace)],
        ),
        "presets": lambda: (
            ("name", "title", "measured"),
            [(p.name, p.title, p.measured) for p in (*starting_points.saved_presets(workspace), *configs.presets())],
        ),
        "jobs": lambda: (("id", "kind", "state"), [(str(j.id), j.kind, j.state) for j in jobs.list("local")]),
        "removed": lambda: (("id", "title"), [(each.id, title) for each, title in trash.list_removed(workspace)]),
    }
    if what not in listings:
        raise StudioError(f"{what!r} cannot be listed; choose one of {', '.join(listings)}.")
    for thing in damage.find(workspace):
        stderr.print(f"The {thing.kind} {thing.title!r} cannot be read: {thing.reason} ({damage.place(workspace, thing)})", highlight=False)
    columns, rows = listings[what]()
    if not rows:
        console.print(f"No {what} yet." if what != "removed" else "No removed items.")
        return
    table(columns, rows)


def main() -> None:
    """Run the command line; a StudioError or OSError prints a message instead of a traceback."""
    os.environ.setdefault("HF_HUB_DISABLE_TELEMETRY", "1")
    try:
        # Its stderr is the terminal, which shows progress and errors.
        configure("cli", default="warning")
        # Called directly, Typer 0.29 would replace the handler of uncaught exceptions.
        typer.main.get_command(app)(standalone_mode=True)
    except StudioError as error:
        print_error(str(error))
    except OSError as error:
        print_error(f"File error: {error}. Check the path, its permissions and the free disk space, then try again.")


def print_error(message: str) -> None:
    stderr.print(message, style="red", highlight=False)
    sys.exit(1)
