import math

import pytest
import torch
from safetensors.torch import save_file

from studio.adapters import fingerprint, load_adapter, read_header
from studio.errors import StudioError
from tests.families import members
from tests.tiny import lora_tensors


@pytest.fixture(scope="module")
def krea(tmp_path_factory):
    return members.member("krea-2", tmp_path_factory.mktemp("tiny"))


def arguments(krea, prompt: str = "a cat", guidance_scale: float = 0.0) -> dict:
    positive, negative = (krea.family.encode_prompts(krea.pipeline, [text]) for text in (prompt, "a dog"))
    return krea.family.call_arguments(positive, negative, guidance_scale)


@torch.no_grad()
def test_latents_are_decoded_by_the_pipeline_as_they_were_encoded(krea):
    pixels = torch.rand(1, 3, members.HEIGHT, members.WIDTH, generator=members.chance(0)) * 2 - 1
    mean, std = krea.family.encode_images(krea.pipeline, pixels)
    assert mean.shape == std.shape == (1, 16, 8, 12) and (std > 0).all()
    straight = krea.pipeline.vae.decode(krea.pipeline.vae.encode(pixels[:, :, None]).latent_dist.mean).sample[:, :, 0]
    shown = members.decoded_by_the_pipeline(krea, members.packed(mean), arguments(krea))
    torch.testing.assert_close(shown, (straight / 2 + 0.5).clamp(0, 1), rtol=1e-4, atol=1e-5)


@torch.no_grad()
@pytest.mark.parametrize("sigma", [1.0, 0.4])
def test_a_prediction_is_the_pipelines_own_step_and_padding_says_nothing(krea, sigma):
    latents = members.noise()
    # The pipeline encodes for itself here, to its own default length.
    velocity, t_B = members.one_step(krea, members.packed(latents), sigma, {"prompt": "a cat", "guidance_scale": 0.0})
    said = krea.family.predict(krea.denoiser, latents, t_B, krea.family.encode_prompts(krea.pipeline, ["a cat"]))
    torch.testing.assert_close(members.packed(said), velocity, rtol=1e-4, atol=1e-5)


@torch.no_grad()
def test_guidance_goes_beyond_the_prompt_by_its_whole_number(krea):
    latents = members.noise()
    velocity, t_B = members.one_step(krea, members.packed(latents), 0.4, arguments(krea, guidance_scale=3.0))
    wanted, unwanted = (
        krea.family.predict(krea.denoiser, latents, t_B, krea.family.encode_prompts(krea.pipeline, [text])) for text in ("a cat", "a dog")
    )
    torch.testing.assert_close(velocity, members.packed(wanted + 3 * (wanted - unwanted)), rtol=1e-4, atol=1e-4)


@torch.no_grad()
def test_prompts_are_of_one_length_whatever_they_say(krea):
    conditions = krea.family.encode_prompts(krea.pipeline, ["", "a cat", "long words " * 60])
    # 256, and what the tiny tokenizer's closing is longer than the real one's five tokens.
    length = 256 - 5 + len(krea.pipeline.tokenizer(krea.pipeline.prompt_template_encode_suffix).input_ids)
    assert conditions["prompt_embeds"].shape == (3, length, 2, 16) and conditions["prompt_embeds_mask"].dtype == torch.bool
    empty, short, cut = conditions["prompt_embeds_mask"].sum(1).tolist()
    assert short == empty + 5 and cut == length


@torch.no_grad()
def test_what_is_not_read_of_a_prompt_is_known(krea):
    lost = krea.family.beyond_limit(krea.pipeline, "a" * 100 + "bc" * 100)
    read = ("a" * 100 + "bc" * 100).removesuffix(lost)
    longer, whole, shorter = (krea.family.encode_prompts(krea.pipeline, [text])["prompt_embeds"] for text in (read + "zzz", read, read[:-1]))
    assert krea.family.beyond_limit(krea.pipeline, read) == "" and lost
    assert torch.equal(longer, whole) and not torch.equal(shorter, whole)


def test_the_same_picture_is_drawn_twice_and_guidance_steers_it(krea):
    first = members.draw(krea, "a cat")
    assert torch.equal(first, members.draw(krea, "a cat"))
    assert not torch.equal(first, members.draw(krea, "a cat", negative_prompt="a dog"))
    assert not torch.equal(first, members.draw(krea, "a house"))
    assert torch.equal(members.draw(krea, "a cat", "a dog", guidance_scale=0.0), members.draw(krea, "a cat", "", guidance_scale=0.0))


def test_the_objective_is_the_schedulers_line_from_picture_to_noise(krea):
    objective, scheduler = krea.family.objective(krea.pipeline, torch.device("cpu")), krea.pipeline.scheduler
    picture, noise = members.noise(1), members.noise(2)
    tokens = 8 * 12 // 4
    scheduler.set_timesteps(sigmas=[0.3], mu=0.5 + (1.15 - 0.5) * (tokens - 256) / (4096 - 256))
    t_B = scheduler.timesteps
    torch.testing.assert_close(objective.timesteps(torch.tensor([0.3]), (8, 12)), t_B)
    noisy = objective.add_noise(picture, noise, t_B)
    torch.testing.assert_close(noisy, scheduler.scale_noise(picture, t_B, noise))
    torch.testing.assert_close(scheduler.step(objective.target(picture, noise, t_B), t_B[0], noisy).prev_sample, picture)


def test_the_distilled_one_has_one_shift_for_all_sizes(tmp_path):
    turbo = members.member("krea-2", tmp_path, is_distilled=True)
    objective = turbo.family.objective(turbo.pipeline, torch.device("cpu"))
    arguments = {"prompt": "a cat", "guidance_scale": 0.0}
    _, t_B = members.one_step(turbo, members.packed(members.noise()), 0.3, arguments)
    for size in ((8, 12), (128, 128)):
        torch.testing.assert_close(objective.timesteps(torch.tensor([0.3]), size), t_B)


def test_a_lora_is_read_back_by_diffusers(krea, tmp_path):
    path = members.save_lora(krea, tmp_path / "a.safetensors", {"transformer": krea.family.target_modules})
    assert fingerprint(read_header(path)).family == "krea-2"
    members.assert_diffusers_reads(krea, path, "a cat")


OWN_NAMES = {
    "transformer_blocks.": "blocks.",
    "text_fusion.": "txtfusion.",
    ".to_q.": ".wq.",
    ".to_k.": ".wk.",
    ".to_v.": ".wv.",
    ".to_out.0.": ".wo.",
    ".to_gate.": ".gate.",
    ".ff.": ".mlp.",
}


@pytest.mark.parametrize("prefix", ["diffusion_model.", "base_model.model."])
def test_files_in_kreas_own_names_are_read(krea, tmp_path, prefix):
    tensors = lora_tensors(krea.pipeline, targets=tuple(f".{end}" for end in krea.family.target_modules), part="transformer")
    foreign = {}
    for name, tensor in tensors.items():
        for theirs, own in OWN_NAMES.items():
            name = name.replace(theirs, own)
        foreign[name.replace("transformer.", prefix, 1)] = tensor
    save_file(foreign, tmp_path / "a.safetensors")
    adapter = load_adapter(tmp_path / "a.safetensors", krea.family)
    assert len(adapter.layers) == len(tensors) // 2
    for name, low_rank in adapter.layers.items():
        assert torch.equal(low_rank.A, tensors[f"{name}.lora_A.weight"]) and torch.equal(low_rank.B, tensors[f"{name}.lora_B.weight"])


def test_kohyas_names_which_nobody_translates_are_refused(krea, tmp_path):
    halves = {"lora_unet_blocks_0_attn_wq.lora_down.weight": torch.ones(4, 32), "lora_unet_blocks_0_attn_wq.lora_up.weight": torch.ones(32, 4)}
    save_file(halves, tmp_path / "a.safetensors")
    with pytest.raises(StudioError, match="layers that nobody here can place"):
        load_adapter(tmp_path / "a.safetensors", krea.family)


def test_the_layers_that_learn_are_the_attention_and_feed_forward_of_blocks(tmp_path):
    fresh = members.member("krea-2", tmp_path)
    blocks = ("transformer_blocks.0", "transformer_blocks.1", "text_fusion.layerwise_blocks.0", "text_fusion.refiner_blocks.0")
    assert members.learning_layers(fresh) == {f"{block}.{end}" for block in blocks for end in fresh.family.target_modules}


def test_an_offers_denoiser_is_of_the_published_size(krea):
    from diffusers import Krea2Transformer2DModel

    for offer in krea.family.offers:
        with torch.device("meta"):
            denoiser = Krea2Transformer2DModel(**offer.denoiser)
        # Published as 12.9 billion, with two small matrices that diffusers' class leaves out.
        assert math.isclose(sum(weight.numel() for weight in denoiser.parameters()) / 1e9, 12.9, rel_tol=0.01)


def test_a_single_file_is_known_by_its_fusion_of_text(krea):
    assert krea.family.checkpoint_offer({"txtfusion.projector.weight": (1, 12)}) is krea.family.offers[0]
    assert krea.family.checkpoint_offer({"double_blocks.0.img_attn.qkv.weight": (9216, 3072)}) is None
