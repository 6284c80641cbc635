"""API endpoint that generates images."""

import asyncio
from collections.abc import Callable
from pathlib import Path

import gradio as gr

from studio.config.recipe import DEFAULT_RECIPE, Recipe, read_recipe
from studio.core.errors import StudioError, validated
from studio.core.workspace import Workspace
from studio.families import bases
from studio.generation.init_images import keep_init_image
from studio.jobs import worker
from studio.runs import library
from studio.ui import files
from studio.ui.api.datasets import uploaded
from studio.ui.studio import Studio


def endpoints(studio: Studio) -> tuple[Callable, ...]:
    async def generate(
        prompt: str,
        request: gr.Request,
        loras: list[dict] | None = None,
        seed: int = DEFAULT_RECIPE.seed,
        num_inference_steps: int | None = None,
        guidance_scale: float | None = None,
        negative_prompt: str = DEFAULT_RECIPE.negative_prompt,
        base_model: str = DEFAULT_RECIPE.base_model,
        count: int = 1,
        revision: str = "",
        width: int | None = None,
        height: int | None = None,
        init_image: gr.FileData | None = None,
        strength: float | None = None,
    ) -> list[dict]:
        """Generate images. loras is [{"ref": ..., "weight": 1.0}, ...], revision a version of a base on the Hub. Steps, guidance and size default
        to the base's own. Generation begins from init_image, a file as gradio_client's handle_file sends it, if there is one; strength (above 0, at
        most 1) is how much may differ from it. Returns the address and the recipe of each image."""
        workspace = studio.workspace(request)
        if strength is not None and init_image is None:
            raise StudioError(f"strength: {strength} applies to an init image; send one as init_image, or leave it out.")
        version = revision.strip() or None
        values = {
            "prompt": prompt,
            "negative_prompt": negative_prompt,
            "base_model": base_model,
            "revision": version,
            "stack": [stack_entry(workspace, each) for each in loras or []],
            "seed": seed,
            "width": width,
            "height": height,
            "init_image": await _keep(workspace, init_image),
            "strength": strength,
            **bases.get_base(base_model, version).sampling_settings(num_inference_steps, guidance_scale),
        }
        payload = {"recipe": validated(Recipe, values).to_json(), "count": count}
        job = studio.jobs.submit(studio.owner(request), "generate", payload)
        worker.ensure(studio.home)
        images = (await studio.result(job))["images"]
        recipes = {each: read_recipe(workspace.image_path(each).read_bytes()) for each in images}
        return [{"id": each, "address": "/" + files.url("image", each), "recipe": recipe.to_json()} for each, recipe in recipes.items()]

    return (generate,)


async def _keep(workspace: Workspace, file: gr.FileData | None) -> str | None:
    """In a thread: the server's loop must not wait while an image is decoded."""
    return await asyncio.to_thread(keep_init_image, workspace, Path(uploaded(file)["path"])) if file else None


def stack_entry(workspace: Workspace, requested: dict) -> dict:
    """One entry of `loras`, as a stack entry of a recipe."""
    if not isinstance(requested, dict) or "ref" not in requested or set(requested) - {"ref", "weight"}:
        raise StudioError(
            f'{repr(requested)[:60]} is not a LoRA of a stack; write {{"ref": "starter:style", "weight": 1.0}}. /adapters lists the refs.'
        )
    return library.stack_entry(workspace, str(requested["ref"]), requested.get("weight", 1.0)).model_dump()
