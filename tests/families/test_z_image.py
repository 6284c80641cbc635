import json
from dataclasses import replace

import pytest
import torch
from diffusers import ZImageTransformer2DModel
from peft import LoKrConfig, LoraConfig
from safetensors.torch import save_file

from studio.adapters import fingerprint, load_adapter, read_header, refuse_other_base, write_adapter
from studio.errors import StudioError
from studio.families import get
from studio.families.z_image import _unfilled
from tests.families.pipelines import decoded_by_pipeline, load_tiny, noise, picture, read_back, save, stepped_by_hand, stepped_by_pipeline, teach

FAMILY = get("z-image")


@pytest.fixture(scope="module")
def member(tmp_path_factory):
    """(base, pipeline); tests leave them as they found them."""
    return load_tiny(FAMILY, tmp_path_factory.mktemp("z-image") / "tiny")


@pytest.fixture(scope="module")
def pipeline(member):
    return member[1]


@pytest.fixture(scope="module")
def spoken(pipeline):
    """Conditions of (a prompt, an empty one)."""
    with torch.no_grad():
        return FAMILY.encode_prompts(pipeline, ["a cat"]), FAMILY.encode_prompts(pipeline, [""])


# Tokens of the picture that fill whole groups of 32, and some that do not; texts shorter and longer than one.
@pytest.mark.parametrize("size", [(64, 128), (80, 96)])
@pytest.mark.parametrize("prompt", ["a", "a cat " * 20], ids=["short", "long"])
def test_it_predicts_what_the_pipeline_asks_for_at_every_step(size, prompt, pipeline, spoken):
    with torch.no_grad():
        positive = FAMILY.encode_prompts(pipeline, [prompt])
    start = noise((1, 16, size[0] // 8, size[1] // 8))
    theirs = stepped_by_pipeline(pipeline, FAMILY.call_arguments(positive, spoken[1], 0.0), start, size, 3)
    torch.testing.assert_close(stepped_by_hand(FAMILY, pipeline, positive, start), theirs, atol=1e-5, rtol=1e-5)


def test_a_batch_of_long_and_short_texts_is_what_the_model_computes_from_lists(pipeline):
    noisy, t = noise((3, 16, 6, 10)), torch.tensor([20.0, 500.0, 999.0])
    with torch.no_grad():
        conditions = FAMILY.encode_prompts(pipeline, ["a", "a cat " * 20, "b" * 600])
        ours = FAMILY.predict(pipeline.transformer, noisy, t, conditions)
        theirs = pipeline.transformer(list(noisy.unsqueeze(2)), (1000 - t) / 1000, _unfilled(conditions), return_dict=False)[0]
    torch.testing.assert_close(ours, -torch.stack(theirs).squeeze(2), atol=1e-5, rtol=1e-5)


def test_recomputing_layers_gives_the_same_gradients(member, spoken):
    base, _ = member
    pipeline = FAMILY.load(base, torch.float32)
    teach(FAMILY, pipeline, LoraConfig(r=4, lora_alpha=4, target_modules=list(FAMILY.target_modules)))
    found = []
    for again in (False, True):
        if again:
            pipeline.transformer.enable_gradient_checkpointing()
        FAMILY.predict(pipeline.transformer, noise((1, 16, 4, 4)), torch.tensor([300.0]), spoken[0]).square().sum().backward()
        found.append([weight.grad.clone() for weight in pipeline.transformer.parameters() if weight.requires_grad])
        pipeline.transformer.zero_grad()
    assert len(found[0]) == 16 and found[0][0].abs().sum() > 0
    torch.testing.assert_close(found[0], found[1])


def test_latents_are_what_the_pipeline_decodes_backwards(pipeline, spoken, monkeypatch):
    pixels = noise((1, 3, 64, 64)).clamp(-1, 1)
    with torch.no_grad():
        mean, std = FAMILY.encode_images(pipeline, pixels)
        posterior = pipeline.vae.encode(pixels).latent_dist
    assert mean.shape == std.shape == (1, 16, 8, 8)
    torch.testing.assert_close(std, posterior.std * 0.3611)
    handed = decoded_by_pipeline(pipeline, FAMILY.call_arguments(*spoken, 0.0), mean, monkeypatch)
    torch.testing.assert_close(handed, posterior.mean, atol=1e-5, rtol=1e-5)


def test_prompts_are_of_one_length_and_the_pipelines_own_behind_the_mask(pipeline):
    prompts = ["a cat", "b " * 400, ""]
    with torch.no_grad():
        conditions = FAMILY.encode_prompts(pipeline, prompts)
        theirs, _ = pipeline.encode_prompt(list(prompts), do_classifier_free_guidance=False)
    assert prompts == ["a cat", "b " * 400, ""]
    assert conditions["prompt_embeds"].shape == (3, 512, 16) and conditions["prompt_mask"].shape == (3, 512)
    assert all(torch.equal(ours, row) for ours, row in zip(_unfilled(conditions), theirs, strict=True))


def test_what_is_cut_off_is_what_changes_nothing(pipeline):
    prompt = "abcdefgh" * 80
    cut = FAMILY.beyond_limit(pipeline, prompt)
    assert cut and prompt.endswith(cut) and not FAMILY.beyond_limit(pipeline, "a cat")
    with torch.no_grad():
        whole, read, less = FAMILY.encode_prompts(pipeline, [prompt, prompt.removesuffix(cut), prompt[: -len(cut) - 1]])["prompt_embeds"]
    assert torch.equal(whole, read) and not torch.equal(whole, less)


def test_a_picture_drawn_twice_is_the_same_and_what_is_not_wanted_changes_it(pipeline, spoken):
    first = picture(FAMILY, pipeline, *spoken)
    assert torch.equal(first, picture(FAMILY, pipeline, *spoken)) and first.std() > 0
    with torch.no_grad():
        assert not torch.equal(first, picture(FAMILY, pipeline, spoken[0], FAMILY.encode_prompts(pipeline, ["zzz " * 20])))


def test_a_lora_is_read_back_by_the_plain_pipeline_and_leaves_the_refiners_alone(member, spoken, tmp_path, monkeypatch):
    base, plain = member
    pipeline, reader = FAMILY.load(base, torch.float32), FAMILY.load(base, torch.float32)
    tensors = teach(FAMILY, pipeline, LoraConfig(r=4, lora_alpha=4, target_modules=list(FAMILY.target_modules)))
    assert len(tensors) == 2 * 4 * 2 and all(name.startswith("transformer.layers.") for name in tensors)
    path = save(FAMILY, base, tmp_path / "a.safetensors", tensors)
    assert read_back(reader, path, monkeypatch) == ([], [])
    drawn = picture(FAMILY, reader, *spoken)
    assert torch.equal(drawn, picture(FAMILY, pipeline, *spoken)) and not torch.equal(drawn, picture(FAMILY, plain, *spoken))
    assert len(load_adapter(path, FAMILY).layers) == 8


def test_a_lokr_with_its_alpha_folded_in_is_read_back_by_the_plain_pipeline(member, spoken, tmp_path, monkeypatch):
    base, _ = member
    pipeline, reader = FAMILY.load(base, torch.float32), FAMILY.load(base, torch.float32)
    settings = {"r": 4, "decompose_both": False, "decompose_factor": -1, "target_modules": sorted(FAMILY.target_modules)}
    tensors = teach(FAMILY, pipeline, LoKrConfig(alpha=8, **settings))
    folded = {name: tensor * 2 if name.endswith((".lokr_w1", ".lokr_w1_a")) else tensor for name, tensor in tensors.items()}
    stated = {f"transformer.{key}": value for key, value in {**settings, "alpha": 4, "peft_type": "LOKR"}.items()}
    write_adapter(tmp_path / "a.safetensors", folded, {"format": "pt", "lora_adapter_metadata": json.dumps(stated)})
    assert read_back(reader, tmp_path / "a.safetensors", monkeypatch) == ([], [])
    assert torch.equal(picture(FAMILY, reader, *spoken), picture(FAMILY, pipeline, *spoken))


SPELLINGS = {
    "kohya": ("lora_unet_layers_0_attention_to_q", "lora_down.weight", "lora_up.weight"),
    "ComfyUI": ("diffusion_model.layers.0.attention.to_q", "lora_A.weight", "lora_B.weight"),
    "ComfyUI with kohya's halves": ("diffusion_model.layers.0.attention.to_q", "lora_down.weight", "lora_up.weight"),
}


@pytest.mark.parametrize("spelling", SPELLINGS)
def test_foreign_spellings_name_the_same_layers(spelling, tmp_path):
    layer, down, up = SPELLINGS[spelling]
    tensors = {f"{layer}.{down}": noise((4, 48)), f"{layer}.{up}": noise((48, 4)), f"{layer}.alpha": torch.tensor(2.0)}
    save_file(tensors, tmp_path / "a.safetensors")
    layers = load_adapter(tmp_path / "a.safetensors", FAMILY).layers
    assert list(layers) == ["transformer.layers.0.attention.to_q"]
    low_rank = next(iter(layers.values()))
    torch.testing.assert_close(low_rank.B @ low_rank.A, noise((48, 4)) @ noise((4, 48)) / 2)


def test_a_lora_of_another_family_is_refused_by_name(member, tmp_path):
    layer = "transformer.single_transformer_blocks.0.attn.to_qkv_mlp_proj"
    path = save(
        FAMILY, member[0], tmp_path / "a.safetensors", {f"{layer}.lora_A.weight": noise((4, 3072)), f"{layer}.lora_B.weight": noise((27648, 4))}
    )
    with pytest.raises(StudioError, match="made for FLUX.2; the chosen base is Z-Image[.]"):
        refuse_other_base("a", fingerprint(read_header(path)), FAMILY, member[0])


def test_a_single_file_in_the_makers_spelling_is_the_denoiser(member, tmp_path):
    base, pipeline = member
    weights = pipeline.transformer.state_dict()
    theirs = {}
    for name, tensor in weights.items():
        if name.endswith((".to_k.weight", ".to_v.weight")):
            continue
        if name.endswith(".to_q.weight"):
            tensor = torch.cat([weights[name.replace("to_q", half)] for half in ("to_q", "to_k", "to_v")])
            name = name.replace("to_q", "qkv")
        for ours, makers in (("all_final_layer.2-1", "final_layer"), ("all_x_embedder.2-1", "x_embedder"), ("to_out.0", "out")):
            name = name.replace(ours, makers)
        theirs[name.replace("norm_q", "q_norm").replace("norm_k", "k_norm")] = tensor.contiguous()
    save_file(theirs, tmp_path / "z.safetensors")
    loaded = FAMILY.load(replace(base, checkpoint=tmp_path / "z.safetensors"), torch.float32).transformer.state_dict()
    assert loaded.keys() == weights.keys() and all(torch.equal(loaded[name], weights[name]) for name in weights)
    assert FAMILY.checkpoint_offer({name: tuple(tensor.shape) for name, tensor in theirs.items()}).title == "Z-Image"
    assert FAMILY.checkpoint_offer({"layers.0.attention.qkv.weight": (6912, 2304)}) is None


def test_the_offers_are_as_large_as_their_makers_say():
    for offer in FAMILY.offers:
        with torch.device("meta"):
            denoiser = ZImageTransformer2DModel(**offer.denoiser)
        assert round(sum(weight.numel() for weight in denoiser.parameters()) / 1e9, 2) == 6.15
        learning = [name for name, layer in denoiser.named_modules() if any(name == end or name.endswith(f".{end}") for end in FAMILY.target_modules)]
        assert len(learning) == 4 * 30 and all(isinstance(denoiser.get_submodule(name), torch.nn.Linear) for name in learning)
