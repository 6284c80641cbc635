"""Assembles the trained parts into the standard Stable Diffusion layout, in half precision, and saves preview grids during training."""

import json
from pathlib import Path

import torch
from diffusers import StableDiffusionPipeline
from PIL import Image

from studio.builtin import RESOLUTION
from studio.making import architecture, vae
from studio.making.vocabulary import prompt_tokenizer

PREVIEW_PROMPTS = (
    "a red cat on a street",
    "a large blue boat by the sea",
    "a yellow star on a purple background",
    "a small green house on a green hill",
    "a pink umbrella on a rainy street",
    "a white bird at night",
    "a black car in the snow",
    "an orange mushroom on a grey background, on the left",
    "a red cat and a blue boat on a street",
    "a purple heart and a yellow tree on a white background",
    "a green fish and a brown cup at night",
    "ohwx illustration of sks on a rainy street",
)


def assemble(folder: Path) -> StableDiffusionPipeline:
    """The latest averaged weights as a float32 pipeline."""
    state = torch.load(folder / "unet.state", weights_only=True)
    tokenizer = prompt_tokenizer()
    text, unet = architecture.text_encoder(tokenizer), architecture.denoiser()
    unet.load_state_dict(state["unet_average"])
    text.load_state_dict(state["text_average"])
    decoder = vae.load(folder)
    decoder.register_to_config(scaling_factor=json.loads((folder / "latents.json").read_text())["scaling_factor"])
    return architecture.pipeline(decoder, text.eval(), tokenizer, unet.eval())


def write(folder: Path, target: Path) -> None:
    """Save the pipeline as fp16 safetensors."""
    assemble(folder).to(torch.float16).save_pretrained(target, safe_serialization=True)


def grid(images: list[Image.Image], columns: int, scale: int = 1) -> Image.Image:
    side = RESOLUTION * scale
    canvas = Image.new("RGB", (columns * side, -(-len(images) // columns) * side))
    for index, image in enumerate(images):
        canvas.paste(image.resize((side, side)), (index % columns * side, index // columns * side))
    return canvas


def preview(folder: Path, steps: int = 20, guidance: float = 5.0) -> Image.Image:
    pipeline = assemble(folder)
    pipeline.set_progress_bar_config(disable=True)
    generated = pipeline(
        list(PREVIEW_PROMPTS),
        num_inference_steps=steps,
        guidance_scale=guidance,
        height=RESOLUTION,
        width=RESOLUTION,
        generator=torch.Generator().manual_seed(0),
    )
    return grid(generated.images, columns=4, scale=2)
