"""Generation from an init image, by every family's pipeline: as diffusers' own image-to-image pipeline does it, where there is one."""

import diffusers
import numpy
import pytest
import torch
from diffusers.models.autoencoders.vae import DiagonalGaussianDistribution
from PIL import Image

from studio.families.init_image import InitImage
from tests.families import members
from tests.families.members import Member, draw, of_kinds, spoken

THEIRS = {
    "stable-diffusion": "StableDiffusionImg2ImgPipeline",
    "stable-diffusion: 2.x": "StableDiffusionImg2ImgPipeline",
    "sdxl": "StableDiffusionXLImg2ImgPipeline",
    "sd3": "StableDiffusion3Img2ImgPipeline",
    "flux": "FluxImg2ImgPipeline",
    "qwen-image": "QwenImageImg2ImgPipeline",
    "z-image": "ZImageImg2ImgPipeline",
    "chroma": "ChromaImg2ImgPipeline",
}
"""FLUX.2 and Krea 2 have none in diffusers."""
SIZE_OF_THE_IMAGE = ("stable-diffusion", "stable-diffusion: 2.x", "sdxl")
"""Whose pipelines take it from the image."""
SCHEDULERS = [
    "PNDMScheduler",
    "DDIMScheduler",
    "EulerDiscreteScheduler",
    "EulerAncestralDiscreteScheduler",
    "HeunDiscreteScheduler",
    "UniPCMultistepScheduler",
    "DPMSolverMultistepScheduler",
]
STEPS, STRENGTH = 10, 0.6


def picture(seed: int = 0, side: int = 200) -> Image.Image:
    """Large soft areas, not of the size that is drawn."""
    coarse = numpy.random.default_rng(seed).integers(0, 255, (4, 4, 3), dtype=numpy.uint8)
    return Image.fromarray(coarse).resize((side, side), Image.Resampling.BICUBIC)


def theirs(member: Member, init: InitImage, monkeypatch) -> torch.Tensor:
    """The pixels that diffusers' image-to-image pipeline draws from the same latents with the same noise: HWC."""
    pipeline = getattr(diffusers, THEIRS[member.kind])(**member.pipeline.components)
    pipeline.set_progress_bar_config(disable=True)
    # It takes a sample of the latents, for which it uses the noise.
    monkeypatch.setattr(DiagonalGaussianDistribution, "sample", lambda posterior, generator=None: posterior.mean)
    size = {} if member.kind in SIZE_OF_THE_IMAGE else {"width": members.WIDTH, "height": members.HEIGHT}
    drawn = pipeline(
        **member.family.call_arguments(spoken(member, "a cat"), spoken(member, ""), 4.0),
        image=init.pixels((members.WIDTH, members.HEIGHT)),
        strength=init.strength,
        num_inference_steps=STEPS,
        generator=members.chance(1),
        output_type="np",
        **size,
    ).images[0]
    return torch.from_numpy((drawn * 255).round().astype("uint8"))


@of_kinds(list(THEIRS))
def test_an_init_image_is_drawn_as_by_diffusers(member, monkeypatch):
    init = InitImage(picture(), STRENGTH)
    ours = draw(member, steps=STEPS, init=init)
    assert not torch.equal(ours, draw(member, steps=STEPS))
    torch.testing.assert_close(ours.float(), theirs(member, init, monkeypatch).float(), atol=1, rtol=0)


def distance(one: torch.Tensor, other: torch.Tensor) -> float:
    return (one.float() - other.float()).square().mean().item()


def test_the_less_strength_the_nearer_to_the_image_and_afterwards_nothing_is_left_of_it(member):
    before = draw(member, steps=STEPS)
    image = picture()
    with torch.no_grad():
        mean, _ = member.family.encode_images(member.pipeline, InitImage(image, 1.0).pixels((members.WIDTH, members.HEIGHT)))
    shown = draw_latents(member, mean)
    weak, strong = (draw(member, steps=40, init=InitImage(image, strength)) for strength in (0.05, 0.9))
    assert distance(weak, shown) < distance(strong, shown)
    assert torch.equal(weak, draw(member, steps=40, init=InitImage(image, 0.05)))
    assert torch.equal(draw(member, steps=STEPS), before)


def draw_latents(member: Member, latents: torch.Tensor) -> torch.Tensor:
    """The pixels of these latents, HWC, by the pipeline's own decoding."""
    with pytest.MonkeyPatch.context() as patched:
        _, shown = members.decoded_by_the_pipeline(member, latents, patched)
    return (shown[0].permute(1, 2, 0) * 255).round()


@of_kinds(["stable-diffusion"])
@pytest.mark.parametrize("name", SCHEDULERS)
def test_every_scheduler_of_a_stable_diffusion_begins_at_the_right_step(member, name, monkeypatch):
    monkeypatch.setattr(member.pipeline, "scheduler", getattr(diffusers, name).from_config(member.pipeline.scheduler.config))
    init = InitImage(picture(), STRENGTH)
    torch.testing.assert_close(draw(member, steps=STEPS, init=init).float(), theirs(member, init, monkeypatch).float(), atol=1, rtol=0)
