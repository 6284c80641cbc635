"""Regularisation pictures: what the base itself draws for the kind's prompt, learnt beside one's own so that it keeps what it knew.

Prior preservation as in Ruiz et al. 2023 (DreamBooth), section 3.3, with the loss's weight lambda.
"""

import hashlib
import io

from studio.config import TrainConfig
from studio.config.recipe import Recipe, add_recipe
from studio.core.workspace import write_atomically
from studio.families.base import Family
from studio.families.facts import BaseFolder
from studio.generation.generator import Generator
from studio.runs.run import Run
from studio.training.batches import Example, load_examples
from studio.training.distributed import Team
from studio.training.encoding_cache import Encodings


def examples(run: Run, config: TrainConfig, base: BaseFolder, family: Family, encodings: Encodings, team: Team) -> list[Example]:
    """The pictures as examples, drawn first where they are not in the run yet; none when no prompt asks for them. Each has a seed of its own."""
    if not config.prior.prompt.strip():
        return []
    if team.first:
        _draw(run, config, base, family, encodings)
    team.wait()
    side = config.dataset.resolution
    listing = []
    for path in sorted(run.prior_dir.glob("*.png")):
        sha256 = hashlib.sha256(path.read_bytes()).hexdigest()
        listing.append({"file": path.name, "sha256": sha256, "caption": config.prior.prompt, "width": side, "height": side})
    # Rounding of the drawing precision must not stay in what is learnt.
    encodings.drop(("vae",))
    found = load_examples(listing, run.prior_dir, config.dataset, encodings, lambda: False, lambda done, total: None)
    encodings.drop(("vae",))
    return found


def _draw(run: Run, config: TrainConfig, base: BaseFolder, family: Family, encodings: Encodings) -> None:
    run.prior_dir.mkdir(exist_ok=True)
    missing = [index for index in range(config.prior.pictures) if not (run.prior_dir / f"{index:04d}.png").exists()]
    if not missing:
        return
    encodings.load_decoder()
    generator = Generator(base, family, config.runtime.device, config.runtime.dtype, encodings.pipeline)
    for prompt in (config.prior.prompt, ""):
        generator.cache_conditions(prompt, encodings.conditions(prompt))
    for index in missing:
        recipe = Recipe(
            prompt=config.prior.prompt,
            family=family.name,
            base_model=config.model.base_model,
            revision=base.revision,
            seed=index,
            num_inference_steps=config.samples.num_inference_steps,
            guidance_scale=config.samples.guidance_scale,
            width=config.dataset.resolution,
            height=config.dataset.resolution,
        )
        png = io.BytesIO()
        generator.generate(recipe, []).save(png, format="PNG")
        write_atomically(run.prior_dir / f"{index:04d}.png", add_recipe(png.getvalue(), recipe))
        run.append({"kind": "prior", "done": index + 1, "total": config.prior.pictures})
