import math

import pytest
import torch
from diffusers.utils import convert_state_dict_to_kohya
from safetensors.torch import save_file

from studio.adapters import fingerprint, load_adapter, read_header, refuse_other_base, serialise
from studio.encodings import Encodings
from studio.errors import StudioError
from studio.families.base import BaseFolder
from tests.families import members
from tests.tiny import lora_tensors


@pytest.fixture(scope="module")
def qwen(tmp_path_factory):
    return members.member("qwen-image", tmp_path_factory.mktemp("tiny"))


def arguments(qwen, prompt: str = "a cat", guidance_scale: float = 1.0) -> dict:
    positive, negative = (qwen.family.encode_prompts(qwen.pipeline, [text]) for text in (prompt, ""))
    return qwen.family.call_arguments(positive, negative, guidance_scale)


@torch.no_grad()
def test_latents_are_decoded_by_the_pipeline_as_they_were_encoded(qwen):
    pixels = torch.rand(1, 3, members.HEIGHT, members.WIDTH, generator=members.chance(0)) * 2 - 1
    mean, std = qwen.family.encode_images(qwen.pipeline, pixels)
    posterior = qwen.pipeline.vae.encode(pixels[:, :, None]).latent_dist
    assert mean.shape == std.shape == (1, 16, 8, 12) and (std > 0).all()
    straight = (qwen.pipeline.vae.decode(posterior.mean).sample[:, :, 0] / 2 + 0.5).clamp(0, 1)
    torch.testing.assert_close(members.decoded_by_the_pipeline(qwen, members.packed(mean), arguments(qwen)), straight, rtol=1e-4, atol=1e-5)
    spread = torch.tensor(qwen.pipeline.vae.config.latents_std).view(-1, 1, 1)
    torch.testing.assert_close(std * spread, posterior.std[:, :, 0])


@torch.no_grad()
def test_pictures_are_encoded_one_like_the_other(qwen):
    pixels = torch.rand(2, 3, members.HEIGHT, members.WIDTH, generator=members.chance(0)) * 2 - 1
    together, _ = qwen.family.encode_images(qwen.pipeline, pixels)
    alone = [qwen.family.encode_images(qwen.pipeline, picture[None])[0] for picture in pixels]
    torch.testing.assert_close(together, torch.cat(alone), rtol=1e-4, atol=1e-5)


@torch.no_grad()
@pytest.mark.parametrize("sigma", [1.0, 0.4])
def test_a_prediction_is_the_pipelines_own_step_and_padding_says_nothing(qwen, sigma):
    latents = members.noise()
    velocity, t_B = members.one_step(qwen, members.packed(latents), sigma, {"prompt": "a cat", "true_cfg_scale": 1.0})
    said = qwen.family.predict(qwen.denoiser, latents, t_B, qwen.family.encode_prompts(qwen.pipeline, ["a cat"]))
    torch.testing.assert_close(members.packed(said), velocity, rtol=1e-4, atol=1e-5)


@torch.no_grad()
def test_prompts_of_any_length_are_of_one_length_and_of_one_kind_alone_or_together(qwen):
    texts = ["", "a cat", "a cat sits", "long words " * 60]
    alone = [qwen.family.encode_prompts(qwen.pipeline, [text]) for text in texts]
    assert all(conditions["prompt_embeds"].shape == (1, 512, 16) for conditions in alone)
    masks = [conditions["prompt_embeds_mask"] for conditions in alone]
    assert all(mask.shape == (1, 512) and mask.dtype == torch.bool for mask in masks)
    lengths = [mask.sum().item() for mask in masks]
    # An empty prompt is a space, a token here; the longest is cut.
    assert lengths == [lengths[0], lengths[0] + 4, lengths[0] + 9, 512]
    together = qwen.family.encode_prompts(qwen.pipeline, texts)
    torch.testing.assert_close(together["prompt_embeds"], torch.cat([conditions["prompt_embeds"] for conditions in alone]), rtol=1e-4, atol=1e-5)
    assert torch.equal(together["prompt_embeds_mask"], torch.cat(masks))


def test_what_is_not_read_of_a_prompt_is_known(qwen):
    kept = "a" * 300
    assert qwen.family.beyond_limit(qwen.pipeline, kept) == ""
    lost = qwen.family.beyond_limit(qwen.pipeline, kept + "bc" * 100)
    read = (kept + "bc" * 100).removesuffix(lost)
    longer, whole, shorter = (qwen.family.encode_prompts(qwen.pipeline, [text])["prompt_embeds"] for text in (read + "zzz", read, read[:-1]))
    torch.testing.assert_close(longer, whole)
    assert lost and not torch.equal(shorter, whole)


def test_conditions_are_kept_on_the_disk_as_they_are(qwen, tmp_path):
    base = BaseFolder(qwen.base.path, "0" * 40, "tiny", "tiny")
    cache = Encodings(tmp_path / "cache", base, qwen.family, torch.device("cpu"), torch.float32)
    computed, read = cache.conditions("a cat"), cache.conditions("a cat")
    assert read["prompt_embeds_mask"].dtype == torch.bool
    assert all(torch.equal(read[name], computed[name]) for name in computed)


def test_the_same_picture_is_drawn_twice_and_guidance_steers_it(qwen):
    first = members.draw(qwen, "a cat")
    assert torch.equal(first, members.draw(qwen, "a cat"))
    assert not torch.equal(first, members.draw(qwen, "a cat", negative_prompt="a dog"))
    assert not torch.equal(first, members.draw(qwen, "a house"))
    assert torch.equal(members.draw(qwen, "a cat", "a dog", guidance_scale=1.0), members.draw(qwen, "a cat", "", guidance_scale=1.0))


def test_the_objective_is_the_schedulers_line_from_picture_to_noise(qwen):
    objective, scheduler = qwen.family.objective(qwen.pipeline, torch.device("cpu")), qwen.pipeline.scheduler
    picture, noise = members.noise(1), members.noise(2)
    tokens = 8 * 12 // 4
    scheduler.set_timesteps(sigmas=[0.3], mu=0.5 + (1.15 - 0.5) * (tokens - 256) / (4096 - 256))
    t_B = scheduler.timesteps
    torch.testing.assert_close(objective.timesteps(torch.special.ndtr(torch.logit(torch.tensor([0.3]))), (8, 12)), t_B)
    noisy = objective.add_noise(picture, noise, t_B)
    torch.testing.assert_close(noisy, scheduler.scale_noise(picture, t_B, noise))
    torch.testing.assert_close(scheduler.step(objective.target(picture, noise, t_B), t_B[0], noisy).prev_sample, picture)


def test_a_lora_is_read_back_by_diffusers(qwen, tmp_path):
    path = members.save_lora(qwen, tmp_path / "a.safetensors", {"transformer": qwen.family.target_modules})
    assert fingerprint(read_header(path)).family == "qwen-image"
    members.assert_diffusers_reads(qwen, path, "a cat")


def test_a_lora_of_another_family_is_refused(qwen, tmp_path):
    tensors = {f"transformer.transformer_blocks.0.ff.net.2.lora_{half}.weight": torch.ones(4, 4) for half in "AB"}
    (tmp_path / "a.safetensors").write_bytes(serialise(tensors, {}))
    found = fingerprint(read_header(tmp_path / "a.safetensors"))
    with pytest.raises(StudioError, match="made for Stable Diffusion 3.5; the chosen base is Qwen-Image[.]"):
        refuse_other_base("a", found, qwen.family, qwen.base)


def spelt(kind: str, tensors: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    if kind == "ComfyUI":
        return {name.replace("transformer.", "diffusion_model.", 1): tensor for name, tensor in tensors.items()}
    bare = {name.removeprefix("transformer."): tensor for name, tensor in tensors.items()}
    if kind == "DiffSynth":
        return {name.replace(".weight", ".default.weight"): tensor for name, tensor in bare.items()}
    kohya = convert_state_dict_to_kohya({f"unet.{name}": tensor for name, tensor in bare.items()})
    return {name: torch.tensor(4.0) if name.endswith(".alpha") else tensor.contiguous() for name, tensor in kohya.items()}


@pytest.mark.parametrize("kind", ["kohya", "ComfyUI", "DiffSynth"])
def test_other_trainers_files_are_read(qwen, tmp_path, kind):
    tensors = lora_tensors(qwen.pipeline, targets=qwen.family.target_modules, part="transformer")
    save_file(spelt(kind, tensors), tmp_path / "a.safetensors")
    adapter = load_adapter(tmp_path / "a.safetensors", qwen.family)
    assert len(adapter.layers) == len(tensors) // 2
    for name, low_rank in adapter.layers.items():
        assert torch.equal(low_rank.A, tensors[f"{name}.lora_A.weight"]) and torch.equal(low_rank.B, tensors[f"{name}.lora_B.weight"])


def test_the_layers_that_learn_are_the_attention_and_feed_forward_of_both_streams(tmp_path):
    fresh = members.member("qwen-image", tmp_path)
    assert members.learning_layers(fresh) == {f"transformer_blocks.{block}.{end}" for block in (0, 1) for end in fresh.family.target_modules}


def test_an_offers_denoiser_is_of_the_published_size(qwen):
    from diffusers import QwenImageTransformer2DModel

    for offer in qwen.family.offers:
        with torch.device("meta"):
            denoiser = QwenImageTransformer2DModel(**offer.denoiser)
        assert math.isclose(sum(weight.numel() for weight in denoiser.parameters()) / 1e9, 20.43, rel_tol=0.001)


@torch.no_grad()
def test_a_single_file_replaces_the_denoiser(qwen, tmp_path):
    weights = {name: tensor + 1 if name == "proj_out.bias" else tensor for name, tensor in qwen.denoiser.state_dict().items()}
    save_file(weights, tmp_path / "other.safetensors")
    assert qwen.family.checkpoint_offer({name: tuple(tensor.shape) for name, tensor in weights.items()}) is qwen.family.offers[0]
    base = BaseFolder(qwen.base.path, None, "other", "other", checkpoint=tmp_path / "other.safetensors")
    loaded = qwen.family.load(base, torch.float32).transformer
    assert torch.equal(loaded.proj_out.bias, qwen.denoiser.proj_out.bias + 1)
    assert torch.equal(loaded.img_in.weight, qwen.denoiser.img_in.weight)
