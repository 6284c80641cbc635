import math

import pytest
import torch

from studio import fingerprints
from studio.adapters import fingerprint, load_adapter, read_header, refuse_other_base
from studio.errors import StudioError
from tests.families import members


@pytest.fixture(scope="module")
def sd3(tmp_path_factory):
    return members.member("sd3", tmp_path_factory.mktemp("tiny"))


def arguments(sd3, prompt: str = "a cat", guidance_scale: float = 1.0) -> dict:
    positive, negative = (sd3.family.encode_prompts(sd3.pipeline, [text]) for text in (prompt, ""))
    return sd3.family.call_arguments(positive, negative, guidance_scale)


@torch.no_grad()
def test_latents_are_decoded_by_the_pipeline_as_they_were_encoded(sd3):
    pixels = torch.rand(1, 3, members.HEIGHT, members.WIDTH, generator=members.chance(0)) * 2 - 1
    mean, std = sd3.family.encode_images(sd3.pipeline, pixels)
    posterior = sd3.pipeline.vae.encode(pixels).latent_dist
    assert mean.shape == std.shape == (1, 16, 8, 12) and (std > 0).all()
    straight = (sd3.pipeline.vae.decode(posterior.mean).sample / 2 + 0.5).clamp(0, 1)
    torch.testing.assert_close(members.decoded_by_the_pipeline(sd3, mean, arguments(sd3)), straight)
    torch.testing.assert_close(std, posterior.std * sd3.pipeline.vae.config.scaling_factor)


@torch.no_grad()
@pytest.mark.parametrize("sigma", [1.0, 0.4])
def test_a_prediction_is_the_pipelines_own_step(sd3, sigma):
    latents = members.noise()
    velocity, t_B = members.one_step(sd3, latents, sigma, arguments(sd3))
    said = sd3.family.predict(sd3.denoiser, latents, t_B, sd3.family.encode_prompts(sd3.pipeline, ["a cat"]))
    torch.testing.assert_close(said, velocity, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("text", ["", "a cat", "long words " * 60], ids=["nothing", "short", "long"])
def test_prompts_are_of_one_length_whatever_they_say(sd3, text):
    conditions = sd3.family.encode_prompts(sd3.pipeline, [text])
    assert conditions["prompt_embeds"].shape == (1, 24 + 256, 32) and conditions["pooled_prompt_embeds"].shape == (1, 32)


def test_what_t5_does_not_read_is_known(sd3):
    assert sd3.family.beyond_limit(sd3.pipeline, "a" * 254) == ""
    lost = sd3.family.beyond_limit(sd3.pipeline, "a" * 250 + "bcdefgh")
    kept = ("a" * 250 + "bcdefgh").removesuffix(lost)
    alike = [sd3.pipeline.tokenizer_3(text, max_length=256, truncation=True).input_ids for text in (kept, kept + lost)]
    assert lost and alike[0] == alike[1]


def test_the_same_picture_is_drawn_twice_and_guidance_steers_it(sd3):
    first = members.draw(sd3, "a cat")
    assert torch.equal(first, members.draw(sd3, "a cat"))
    assert not torch.equal(first, members.draw(sd3, "a cat", negative_prompt="a dog"))
    assert not torch.equal(first, members.draw(sd3, "a house"))


def test_the_objective_is_the_schedulers_line_from_picture_to_noise(sd3):
    objective, scheduler = sd3.family.objective(sd3.pipeline, torch.device("cpu")), sd3.pipeline.scheduler
    picture, noise = members.noise(1), members.noise(2)
    scheduler.set_timesteps(sigmas=[0.3])
    t_B, sigma = scheduler.timesteps, scheduler.sigmas[0]
    assert math.isclose(sigma, 3 * 0.3 / (1 + 2 * 0.3), rel_tol=1e-6)
    torch.testing.assert_close(objective.timesteps(torch.special.ndtr(torch.logit(torch.tensor([0.3]))), (8, 12)), t_B)
    noisy = objective.add_noise(picture, noise, t_B)
    torch.testing.assert_close(noisy, scheduler.scale_noise(picture, t_B, noise))
    torch.testing.assert_close(scheduler.step(objective.target(picture, noise, t_B), t_B[0], noisy).prev_sample, picture)


def test_a_member_of_another_width_is_refused_by_name(sd3, tmp_path):
    wide = members.member("sd3", tmp_path, heads=3)
    assert (sd3.family.width(sd3.base), sd3.family.width(wide.base)) == (16, 24)
    path = members.save_lora(sd3, tmp_path / "a.safetensors", {"transformer": sd3.family.target_modules})
    found = fingerprint(read_header(path))
    refuse_other_base("a", found, sd3.family, sd3.base)
    with pytest.raises(StudioError, match="made for a Stable Diffusion 3.5 model 16 wide; the chosen base is a Stable Diffusion 3.5 model 24 wide"):
        refuse_other_base("a", found, sd3.family, wide.base)


def test_members_are_called_by_their_names(sd3):
    large = fingerprints.Fingerprint("sd3", "Stable Diffusion 3.5", 4, 4, 2432, 1)
    with pytest.raises(StudioError, match="made for Stable Diffusion 3.5 large"):
        refuse_other_base("a", large, sd3.family, sd3.base)
    assert sd3.family.member_title(1536) == "Stable Diffusion 3.5 medium"


def test_a_lora_of_every_part_that_learns_is_read_back_by_diffusers(sd3, tmp_path):
    parts = {"transformer": sd3.family.target_modules, **sd3.family.text_encoder_targets}
    path = members.save_lora(sd3, tmp_path / "a.safetensors", parts)
    adapter = load_adapter(path, sd3.family)
    assert {name.partition(".")[0] for name in adapter.layers} == {"transformer", "text_encoder", "text_encoder_2"}
    assert (adapter.fingerprint.family, adapter.fingerprint.width) == ("sd3", 16)
    members.assert_diffusers_reads(sd3, path, "a cat")


def test_the_layers_that_learn_are_the_attention_and_feed_forward_of_both_streams(tmp_path):
    fresh = members.member("sd3", tmp_path)
    first = {f"transformer_blocks.0.{end}" for end in fresh.family.target_modules}
    # The last block gives no words on.
    last = {f"transformer_blocks.1.{end}" for end in fresh.family.target_modules if end != "attn.to_add_out" and "context" not in end}
    assert members.learning_layers(fresh) == first | last


@pytest.mark.parametrize(("index", "billions"), [(0, 2.47), (1, 8.15)])
def test_an_offers_denoiser_is_of_the_published_size(sd3, index, billions):
    from diffusers import SD3Transformer2DModel

    offer = sd3.family.offers[index]
    with torch.device("meta"):
        denoiser = SD3Transformer2DModel(**offer.denoiser)
    # The grid of positions lies in the file too, though it does not learn: 4.94 GB and 16.3 GB at two bytes a number.
    size = sum(part.numel() for part in (*denoiser.parameters(), *denoiser.buffers()))
    assert math.isclose(size / 1e9, billions, rel_tol=0.01)
    assert sd3.family.member_title(denoiser.inner_dim) == offer.name


def test_single_files_are_known_by_their_blocks(sd3):
    medium, large = sd3.family.offers
    assert sd3.family.checkpoint_offer({"joint_blocks.0.x_block.attn2.qkv.weight": (4608, 1536)}) is medium
    assert sd3.family.checkpoint_offer({"joint_blocks.37.x_block.mlp.fc1.weight": (9728, 2432)}) is large
    assert sd3.family.checkpoint_offer({"double_blocks.0.img_attn.qkv.weight": (9216, 3072)}) is None
