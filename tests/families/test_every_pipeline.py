"""What every family owes to diffusers' own pipeline of its base: the same latents, steps and pictures, and a schedule of noise to learn by."""

import json
from collections.abc import Callable

import numpy
import pytest
import torch
from diffusers import DDIMScheduler, FlowMatchEulerDiscreteScheduler

from studio.config.recipe import Recipe
from studio.devices.offload import Offload
from studio.generation.generator import Generator
from studio.training.encoding_cache import Encodings
from tests.families import members
from tests.families.members import KINDS, Member, draw, noise, of_kinds, predicted, spoken

DISCRETE = ["stable-diffusion", "stable-diffusion: 2.x", "sdxl"]
FLOWS = [kind for kind in KINDS if kind not in DISCRETE]
UNGUIDED = {"z-image": 0.0, "krea-2": 0.0}
"""The guidance scale that changes nothing, where it is not 1."""

ITS_MASK_IN_NUMBERS = ("chroma",)
"""diffusers 0.42 adds this one's mask, as numbers, to what it should hide (its issue 13619): it is handed the mask as yes and no."""


def classic(wanted: torch.Tensor, unwanted: torch.Tensor, scale: float) -> torch.Tensor:
    """Ho & Salimans 2022."""
    return unwanted + scale * (wanted - unwanted)


def beyond(wanted: torch.Tensor, unwanted: torch.Tensor, scale: float) -> torch.Tensor:
    return wanted + scale * (wanted - unwanted)


def as_long(wanted: torch.Tensor, unwanted: torch.Tensor, scale: float) -> torch.Tensor:
    """The classic one, every token as long as the prompt's own."""
    guided = classic(wanted, unwanted, scale)
    return guided * wanted.norm(dim=-1, keepdim=True) / guided.norm(dim=-1, keepdim=True)


GUIDANCE: dict[str, Callable[[torch.Tensor, torch.Tensor, float], torch.Tensor]] = {
    **dict.fromkeys(("stable-diffusion", "stable-diffusion: 2.x", "sdxl", "sd3", "flux2", "chroma"), classic),
    **dict.fromkeys(("z-image", "krea-2", "krea-2: distilled"), beyond),
    "qwen-image": as_long,
}
"""How what is said for a prompt and for a negative one becomes one, in the pipeline's tokens; the others are told their guidance."""


def unguided(member: Member) -> float:
    return UNGUIDED.get(member.family.name, 1.0)


def asked(member: Member, prompt: str) -> dict:
    """What the pipeline is called with to encode a prompt for itself, at its own length, and to draw it without guidance."""
    scale = unguided(member)
    if member.family.name not in ITS_MASK_IN_NUMBERS:
        return {"prompt": prompt, **member.family.code_arguments(scale)}
    return with_masks(member.family.call_arguments(spoken(member, prompt), spoken(member, ""), scale))


def with_masks(arguments: dict) -> dict:
    """The same with every mask as yes and no."""
    return {name: rows.bool() if name.endswith("_mask") and rows is not None else rows for name, rows in arguments.items()}


def pictures(count: int) -> torch.Tensor:
    return torch.rand(count, 3, members.HEIGHT, members.WIDTH, generator=members.chance(0)) * 2 - 1


@torch.no_grad()
def test_latents_are_decoded_by_the_pipeline_as_they_were_encoded(member, monkeypatch):
    """The mean is what the autoencoder said, and so is what lies one standard deviation away."""
    pixels, vae = pictures(1), member.pipeline.vae
    mean, std = member.family.encode_images(member.pipeline, pixels)
    assert mean.shape == std.shape == (1, *member.latent_shape) and (std > 0).all()
    posterior = vae.encode(members.frames(member, pixels)).latent_dist
    handed, shown = members.decoded_by_the_pipeline(member, mean, monkeypatch)
    torch.testing.assert_close(handed, posterior.mean)
    straight = vae.decode(posterior.mean).sample.reshape(shown.shape)
    torch.testing.assert_close(shown, (straight / 2 + 0.5).clamp(0, 1))
    away, _ = members.decoded_by_the_pipeline(member, mean + std, monkeypatch)
    torch.testing.assert_close(away - handed, posterior.std)


@torch.no_grad()
def test_pictures_are_encoded_one_like_the_other(member):
    pixels = pictures(2)
    together, _ = member.family.encode_images(member.pipeline, pixels)
    alone = [member.family.encode_images(member.pipeline, picture[None])[0] for picture in pixels]
    torch.testing.assert_close(together, torch.cat(alone), rtol=1e-4, atol=1e-5)


# Tokens of the picture that fill whole groups of 32, and some that do not; texts shorter and longer than such a group.
@pytest.mark.parametrize("size", [(64, 128), (80, 96)], ids=["32 tokens", "30 tokens"])
@pytest.mark.parametrize("prompt", ["a", "a cat " * 20], ids=["short", "long"])
def test_a_prediction_is_the_pipelines_own_at_every_step_and_padding_says_nothing(member, size, prompt, monkeypatch):
    conditions = spoken(member, prompt)
    steps = members.steps_of(member, asked(member, prompt), size, 3, monkeypatch)
    assert len(steps) == 3
    for latents, t, theirs in steps:
        torch.testing.assert_close(predicted(member, latents, t, conditions), theirs, atol=1e-5, rtol=1e-5)


@of_kinds(list(GUIDANCE))
def test_the_negative_prompt_is_what_guidance_leads_away_from(member, monkeypatch):
    size, wanted, unwanted = (members.HEIGHT, members.WIDTH), spoken(member, "a cat"), spoken(member, "a dog")
    arguments = with_masks(member.family.call_arguments(wanted, unwanted, 3.0))
    *_, (latents, t, theirs) = members.steps_of(member, arguments, size, 2, monkeypatch)
    said = (member.packed(predicted(member, latents, t, conditions)) for conditions in (wanted, unwanted))
    torch.testing.assert_close(GUIDANCE[member.kind](*said, 3.0), member.packed(theirs), rtol=1e-4, atol=1e-4)


def test_a_training_without_text_encoders_draws_a_new_prompt_as_the_whole_pipeline_does(member, tmp_path):
    """The pipeline of a run, whose encoders come for the prompt and go again."""
    recipe = Recipe(prompt="a red cat", negative_prompt="blue", num_inference_steps=2, guidance_scale=3.0, width=members.WIDTH, height=members.HEIGHT)
    whole = Generator(member.base, member.family, pipeline=member.pipeline).generate(recipe, [])
    encodings = Encodings(tmp_path, member.base, member.family, torch.device("cpu"), torch.float32)
    denoiser = member.family.load(member.base, torch.float32, parts=(member.family.denoiser_name,)).components[member.family.denoiser_name]
    encodings.pipeline.register_modules(**{member.family.denoiser_name: denoiser})
    encodings.load_decoder()
    generator = Generator(member.base, member.family, pipeline=encodings.pipeline, text_encoders=encodings.text_encoders)
    for _ in range(2):
        assert numpy.array_equal(numpy.asarray(generator.generate(recipe, [])), numpy.asarray(whole))
        assert all(encodings.pipeline.components[name] is None for name in member.family.text_encoder_names)
    assert all(weight.is_meta for part in generator.freed.values() for weight in part.parameters())


def gradients(member: Member) -> dict[str, torch.Tensor]:
    """Of one step, by the names of what learns."""
    said = member.family.predict(member.denoiser, noise((1, *member.latent_shape)), torch.tensor([300.0]), spoken(member, "a cat"))
    said.square().sum().backward()
    found = {name: weight.grad.clone() for name, weight in member.denoiser.named_parameters() if weight.grad is not None}
    member.denoiser.zero_grad()
    return found


@pytest.fixture
def learning(member):
    """The member with trainable halves in its denoiser, learning; afterwards as before."""
    part = member.family.denoiser_name
    with members.taught(member, {part: members.low_rank(member)[part]}):
        member.denoiser.train()
        yield member
        member.denoiser.disable_gradient_checkpointing()
        member.denoiser.eval()


def test_blocks_that_are_computed_twice_learn_the_same(learning):
    once = gradients(learning)
    learning.family.enable_gradient_checkpointing(learning.denoiser)
    assert any(gradient.abs().sum() > 0 for gradient in once.values())
    torch.testing.assert_close(gradients(learning), once)


def test_blocks_that_wait_in_main_memory_are_there_when_they_compute(learning):
    picture, once, blocks = draw(learning), gradients(learning), learning.family.blocks(learning.denoiser)
    learning.family.enable_gradient_checkpointing(learning.denoiser)
    offload, seen = Offload(learning.denoiser, blocks, torch.device("cpu")), []
    offload.enable()
    watching = [block.register_forward_pre_hook(lambda *_: seen.append(sum(members.is_whole(block) for block in blocks))) for block in blocks]
    try:
        for _ in range(2):
            torch.testing.assert_close(gradients(learning), once)
            assert not any(members.is_whole(block) for block in blocks), "one is still there"
        # Numbers that lie elsewhere in memory may be added in another order.
        torch.testing.assert_close(draw(learning).float(), picture.float(), atol=1, rtol=0)
        assert set(seen) == {1}
    finally:
        for hook in watching:
            hook.remove()
        offload.disable()
    assert all(members.is_whole(block) for block in blocks)
    torch.testing.assert_close(draw(learning).float(), picture.float(), atol=1, rtol=0)


def test_the_same_picture_is_drawn_twice_and_guidance_steers_it(member):
    first = draw(member)
    assert torch.equal(first, draw(member)) and first.float().std() > 0
    assert not torch.equal(first, draw(member, "a house"))
    index = json.loads((member.base.path / "model_index.json").read_text())
    assert member.family.uses_negative_prompt(index, member.denoiser.config) == (member.kind in GUIDANCE)
    assert torch.equal(first, draw(member, negative_prompt="a dog")) == (member.kind not in GUIDANCE)
    off = unguided(member)
    without = draw(member, guidance_scale=off)
    assert torch.equal(without, draw(member, negative_prompt="a dog", guidance_scale=off)) and not torch.equal(without, first)


@of_kinds(FLOWS)
@pytest.mark.parametrize("size", [(members.HEIGHT, members.WIDTH), (128, 128)], ids=["small", "larger"])
def test_the_objective_of_a_flow_is_the_schedulers_line_from_picture_to_noise(member, size, monkeypatch):
    objective = member.family.objective(member.pipeline, torch.device("cpu"))
    # Where the pipeline's own shift moves this level. FLUX.2's depends on the number of steps, too, and is ours for 200 of them.
    ((latents, t, _),) = members.steps_of(member, asked(member, "a cat") | {"sigmas": [0.3]}, size, 200, monkeypatch)
    level = {"uniform": torch.tensor([0.3]), "logit_normal": torch.special.ndtr(torch.logit(torch.tensor([0.3])))}[objective.density]
    t_B = objective.timesteps(level, tuple(latents.shape[2:]))
    torch.testing.assert_close(t_B, t[None])

    # A schedule of that level alone, which is not moved again.
    scheduler = FlowMatchEulerDiscreteScheduler.from_config(member.pipeline.scheduler.config, shift=1.0, use_dynamic_shifting=False)
    scheduler.set_timesteps(sigmas=(t[None] / 1000).tolist())
    torch.testing.assert_close(scheduler.timesteps, t[None])
    assert member.pipeline.scheduler.sigmas[-1] == scheduler.sigmas[-1] == 0
    t = scheduler.timesteps[0]
    picture, chaos = noise(latents.shape, 1), noise(latents.shape, 2)
    noisy = objective.add_noise(picture, chaos, t_B)
    torch.testing.assert_close(noisy, scheduler.scale_noise(picture, t[None], chaos))
    torch.testing.assert_close(scheduler.step(objective.target(picture, chaos, t_B), t, noisy).prev_sample, picture)


@of_kinds(DISCRETE)
def test_the_objective_of_a_discrete_schedule_leads_the_scheduler_back_to_the_picture(member):
    objective, scheduler = member.family.objective(member.pipeline, torch.device("cpu")), DDIMScheduler.from_config(member.pipeline.scheduler.config)
    assert objective.prediction_type == member.family.prediction_type(member.base) == scheduler.config.prediction_type
    scheduler.set_timesteps(1000)
    for t_B in objective.timesteps(torch.tensor([[0.0], [0.3], [0.9]]), member.latent_shape[1:]):
        picture, chaos = noise((1, *member.latent_shape), 1), noise((1, *member.latent_shape), 2)
        noisy = objective.add_noise(picture, chaos, t_B)
        torch.testing.assert_close(noisy, scheduler.add_noise(picture, chaos, t_B))
        origin = scheduler.step(objective.target(picture, chaos, t_B), t_B[0], noisy).pred_original_sample
        torch.testing.assert_close(origin, picture, rtol=1e-5, atol=1e-5)
