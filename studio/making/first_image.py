"""Generates the two images of the initial page with the studio's generator: `python -m studio.making.first_image [--seed N]`.

They are ordinary images with a recipe in their metadata: the Generate button generates them again.
"""

import argparse
import io

from studio import builtin, families
from studio.config.recipe import Recipe, StackEntry, add_recipe
from studio.config.runtime import RuntimeConfig
from studio.devices import runtime
from studio.runs import library

FIRST_DIR = builtin.HERE / "first"
PROMPT = "tok light, a large red mushroom on a green hill"
STACK = {"dusk": 0.8}
SEED = 5
"""Chosen by eye among a hundred pairs: both images are sharp, and they differ by one thing, the light."""


def recipe(seed: int = SEED) -> Recipe:
    starters = {adapter.path.stem: adapter for adapter in library.starters()}
    entries = [
        StackEntry(adapter=starters[name].ref, weight=weight, title=starters[name].title, sha256=starters[name].sha256)
        for name, weight in STACK.items()
    ]
    return Recipe(prompt=PROMPT, stack=entries, seed=seed)


def make(seed: int) -> None:
    """Generate first/base.png with the base alone and first/stack.png with the starters."""
    from studio.generation.generator import Generator

    runtime.apply(runtime.resolve(RuntimeConfig()))
    generator = Generator(families.resolve_base(families.BUILTIN_ID), families.get("stable-diffusion"))
    FIRST_DIR.mkdir(exist_ok=True)
    full = recipe(seed)
    for name, one in (("base", full.without_stack()), ("stack", full)):
        paths = {adapter.ref: adapter.path for adapter in library.starters()}
        image = generator.generate(one, [(paths[entry.adapter], entry.weight) for entry in one.stack])
        png = io.BytesIO()
        image.save(png, format="PNG", optimize=True)
        (FIRST_DIR / f"{name}.png").write_bytes(add_recipe(png.getvalue(), one))


if __name__ == "__main__":
    parser = argparse.ArgumentParser(prog="python -m studio.making.first_image", description=__doc__.splitlines()[0])
    parser.add_argument("--seed", type=int, default=SEED, help=f"seed of both images (default {SEED})")
    make(parser.parse_args().seed)
