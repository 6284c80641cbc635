import json
import shutil
from dataclasses import replace

import pytest
import torch
from diffusers import Flux2Pipeline, Flux2Transformer2DModel
from peft import LoKrConfig, LoraConfig
from safetensors.torch import save_file

from studio.adapters import fingerprint, load_adapter, read_header, refuse_other_base, write_adapter
from studio.errors import StudioError
from studio.families import get, resolve_base
from tests.families.pipelines import decoded_by_pipeline, load_tiny, noise, picture, read_back, save, stepped_by_hand, stepped_by_pipeline, teach

FAMILY = get("flux2")
MEMBERS = ("klein", "dev")


@pytest.fixture(scope="module")
def members(tmp_path_factory):
    """member -> (base, pipeline); tests leave them as they found them."""
    return {member: load_tiny(FAMILY, tmp_path_factory.mktemp(member) / "tiny", member=member) for member in MEMBERS}


@pytest.fixture(scope="module")
def spoken(members):
    """member -> conditions of (a prompt, an empty one)."""
    with torch.no_grad():
        return {
            member: (FAMILY.encode_prompts(pipeline, ["a cat"]), FAMILY.encode_prompts(pipeline, [""])) for member, (_, pipeline) in members.items()
        }


@pytest.mark.parametrize("member", MEMBERS)
def test_it_predicts_what_the_pipeline_asks_for_at_every_step(member, members, spoken):
    _, pipeline = members[member]
    positive, negative = spoken[member]
    start = noise((1, 16, 4, 6))
    theirs = stepped_by_pipeline(pipeline, FAMILY.call_arguments(positive, negative, 1.0), start, (64, 96), 3)
    ours = stepped_by_hand(FAMILY, pipeline, positive, start)
    for their_BTC, our_BCHW in zip(theirs, ours, strict=True):
        torch.testing.assert_close(our_BCHW, their_BTC.transpose(1, 2).unflatten(2, (4, 6)), atol=1e-5, rtol=1e-5)


def test_latents_are_what_the_pipeline_decodes_backwards(members, spoken, monkeypatch):
    _, pipeline = members["klein"]
    pixels = noise((1, 3, 64, 64)).clamp(-1, 1)
    with torch.no_grad():
        mean, std = FAMILY.encode_images(pipeline, pixels)
        posterior = pipeline.vae.encode(pixels).latent_dist
    assert mean.shape == std.shape == (1, 16, 4, 4) and (std > 0).all()
    handed = decoded_by_pipeline(pipeline, FAMILY.call_arguments(*spoken["klein"], 1.0), mean, monkeypatch)
    torch.testing.assert_close(handed, posterior.mean, atol=1e-5, rtol=1e-5)
    spread = pipeline._unpatchify_latents(std * torch.sqrt(pipeline.vae.bn.running_var.view(1, -1, 1, 1) + pipeline.vae.config.batch_norm_eps))
    torch.testing.assert_close(spread, posterior.std)


@pytest.mark.parametrize("member", MEMBERS)
def test_prompts_are_of_one_length_and_a_row_does_not_see_its_neighbours(member, members, spoken):
    _, pipeline = members[member]
    with torch.no_grad():
        conditions = FAMILY.encode_prompts(pipeline, ["a cat", "b " * 400, ""])
    assert conditions["prompt_embeds"].shape == (3, 512, 48)
    torch.testing.assert_close(conditions["prompt_embeds"][:1], spoken[member][0]["prompt_embeds"], atol=1e-5, rtol=1e-5)
    assert ("guidance" in conditions) == (member == "dev")


@pytest.mark.parametrize("member", MEMBERS)
def test_what_is_cut_off_is_what_changes_nothing(member, members):
    _, pipeline = members[member]
    prompt = "abcdefgh" * 80
    cut = FAMILY.beyond_limit(pipeline, prompt)
    assert cut and prompt.endswith(cut) and not FAMILY.beyond_limit(pipeline, "a cat")
    with torch.no_grad():
        whole, read, less = (
            FAMILY.encode_prompts(pipeline, [text])["prompt_embeds"] for text in (prompt, prompt.removesuffix(cut), prompt[: -len(cut) - 1])
        )
    assert torch.equal(whole, read) and not torch.equal(whole, less)


def test_dev_is_told_its_guidance_and_klein_is_guided_by_what_is_not_wanted(members, spoken):
    _, klein = members["klein"]
    _, dev = members["dev"]
    with torch.no_grad():
        unwanted = {member: FAMILY.encode_prompts(pipeline, ["zzz " * 20]) for member, (_, pipeline) in members.items()}
    assert not torch.equal(picture(FAMILY, klein, *spoken["klein"]), picture(FAMILY, klein, spoken["klein"][0], unwanted["klein"]))
    assert torch.equal(picture(FAMILY, dev, *spoken["dev"]), picture(FAMILY, dev, spoken["dev"][0], unwanted["dev"]))
    assert not torch.equal(picture(FAMILY, dev, *spoken["dev"], 1.0), picture(FAMILY, dev, *spoken["dev"], 8.0))


@pytest.mark.parametrize("member", MEMBERS)
def test_a_picture_drawn_twice_is_the_same(member, members, spoken):
    _, pipeline = members[member]
    first = picture(FAMILY, pipeline, *spoken[member])
    assert torch.equal(first, picture(FAMILY, pipeline, *spoken[member])) and first.std() > 0


def test_dev_loads_from_its_makers_folder_without_what_a_processor_of_pictures_needs(members, spoken, tmp_path):
    folder = shutil.copytree(members["dev"][0].path, tmp_path / "dev")
    config = json.loads((folder / "transformer" / "config.json").read_text())
    del config["guidance_embeds"]
    (folder / "transformer" / "config.json").write_text(json.dumps(config))
    # The makers' folder names a class that only torchvision brings to life.
    index = json.loads((folder / "model_index.json").read_text()) | {"tokenizer": ["transformers", "PixtralProcessor"]}
    (folder / "model_index.json").write_text(json.dumps(index))
    base = resolve_base(str(folder))
    assert FAMILY.architecture(base) == "Flux.2-dev/lora"
    pipeline = FAMILY.load(base, torch.float32, parts=("text_encoder",))
    assert isinstance(pipeline, Flux2Pipeline) and pipeline.transformer is None and pipeline.vae is None
    with torch.no_grad():
        assert torch.equal(FAMILY.encode_prompts(pipeline, ["a cat"])["prompt_embeds"], spoken["dev"][0]["prompt_embeds"])


def test_members_are_told_by_their_width_and_refuse_each_others_loras(members, tmp_path):
    klein, dev = members["klein"][0], members["dev"][0]
    assert (FAMILY.width(klein), FAMILY.width(dev)) == (32, 48)
    assert (FAMILY.architecture(klein), FAMILY.architecture(dev)) == ("Flux.2-klein-4b/lora", "Flux.2-dev/lora")
    assert [FAMILY.member_title(width) for width in (6144, 3072, 4096)] == ["FLUX.2 [dev]", "FLUX.2 [klein] 4B", "FLUX.2 [klein] 9B"]
    tensors = {
        "transformer.transformer_blocks.0.attn.to_q.lora_A.weight": torch.ones(4, 32),
        "transformer.transformer_blocks.0.attn.to_q.lora_B.weight": torch.ones(32, 4),
    }
    found = fingerprint(read_header(save(FAMILY, klein, tmp_path / "a.safetensors", tensors)))
    assert (found.family, found.width) == ("flux2", 32)
    refuse_other_base("a", found, FAMILY, klein)
    with pytest.raises(StudioError, match="made for a FLUX.2 model 32 wide; the chosen base is a FLUX.2 model 48 wide"):
        refuse_other_base("a", found, FAMILY, dev)


@pytest.mark.parametrize("member", MEMBERS)
def test_a_lora_is_read_back_by_the_plain_pipeline(member, members, spoken, tmp_path, monkeypatch):
    base, plain = members[member]
    pipeline, reader = FAMILY.load(base, torch.float32), FAMILY.load(base, torch.float32)
    tensors = teach(FAMILY, pipeline, LoraConfig(r=4, lora_alpha=4, target_modules=list(FAMILY.target_modules)))
    assert len(tensors) == 2 * (8 + 2 * 2)
    path = save(FAMILY, base, tmp_path / "a.safetensors", tensors)
    assert read_back(reader, path, monkeypatch) == ([], [])
    drawn = picture(FAMILY, reader, *spoken[member])
    assert torch.equal(drawn, picture(FAMILY, pipeline, *spoken[member])) and not torch.equal(drawn, picture(FAMILY, plain, *spoken[member]))
    assert len(load_adapter(path, FAMILY).layers) == 12


def test_a_lokr_with_its_alpha_folded_in_is_read_back_by_the_plain_pipeline(members, spoken, tmp_path, monkeypatch):
    base, _ = members["klein"]
    pipeline, reader = FAMILY.load(base, torch.float32), FAMILY.load(base, torch.float32)
    settings = {"r": 2, "decompose_both": True, "decompose_factor": 8, "target_modules": sorted(FAMILY.target_modules)}
    tensors = teach(FAMILY, pipeline, LoKrConfig(alpha=6, **settings))
    folded = {name: tensor * 3 if name.endswith((".lokr_w1", ".lokr_w1_a")) else tensor for name, tensor in tensors.items()}
    stated = {f"transformer.{key}": value for key, value in {**settings, "alpha": 2, "peft_type": "LOKR"}.items()}
    write_adapter(tmp_path / "a.safetensors", folded, {"format": "pt", "lora_adapter_metadata": json.dumps(stated)})
    assert read_back(reader, tmp_path / "a.safetensors", monkeypatch) == ([], [])
    assert torch.equal(picture(FAMILY, reader, *spoken["klein"]), picture(FAMILY, pipeline, *spoken["klein"]))


SPELLINGS = {
    "diffusers": ("transformer.single_transformer_blocks.0.attn.to_qkv_mlp_proj", "lora_A.weight", "lora_B.weight"),
    "diffusers with kohya's halves": ("transformer.single_transformer_blocks.0.attn.to_qkv_mlp_proj", "lora_down.weight", "lora_up.weight"),
    "kohya": ("lora_unet_single_blocks_0_linear1", "lora_down.weight", "lora_up.weight"),
    "ComfyUI": ("diffusion_model.single_blocks.0.linear1", "lora_A.weight", "lora_B.weight"),
    "ComfyUI with kohya's halves": ("diffusion_model.single_blocks.0.linear1", "lora_down.weight", "lora_up.weight"),
    "PEFT": ("base_model.model.single_blocks.0.linear1", "lora_A.weight", "lora_B.weight"),
}


@pytest.mark.parametrize("spelling", SPELLINGS)
def test_foreign_spellings_name_the_same_layers(spelling, tmp_path):
    layer, down, up = SPELLINGS[spelling]
    tensors = {f"{layer}.{down}": noise((4, 32)), f"{layer}.{up}": noise((288, 4)), f"{layer}.alpha": torch.tensor(2.0)}
    save_file(tensors, tmp_path / "a.safetensors")
    layers = load_adapter(tmp_path / "a.safetensors", FAMILY).layers
    assert list(layers) == ["transformer.single_transformer_blocks.0.attn.to_qkv_mlp_proj"]
    low_rank = next(iter(layers.values()))
    torch.testing.assert_close(low_rank.B @ low_rank.A, noise((288, 4)) @ noise((4, 32)) / 2)


def test_a_single_file_in_the_makers_spelling_is_the_denoiser(members, tmp_path):
    base, pipeline = members["klein"]
    weights = pipeline.transformer.state_dict()
    save_file(makers_spelling(weights), tmp_path / "flux2.safetensors")
    loaded = FAMILY.load(replace(base, checkpoint=tmp_path / "flux2.safetensors"), torch.float32).transformer.state_dict()
    assert loaded.keys() == weights.keys() and all(torch.equal(loaded[name], weights[name]) for name in weights)
    offers = [FAMILY.checkpoint_offer({"double_stream_modulation_img.lin.weight": (6 * width, width)}) for width in (3072, 4096, 6144, 5)]
    assert [offer.title if offer else None for offer in offers] == ["FLUX.2 klein 4B", "FLUX.2 klein 9B", "FLUX.2 dev", None]


def makers_spelling(weights: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    renamed = {
        "single_transformer_blocks.": "single_blocks.",
        "transformer_blocks.": "double_blocks.",
        "attn.to_qkv_mlp_proj": "linear1",
        "ff_context.linear_in": "txt_mlp.0",
        "ff_context.linear_out": "txt_mlp.2",
        "ff.linear_in": "img_mlp.0",
        "ff.linear_out": "img_mlp.2",
        "attn.to_out.0": "img_attn.proj",
        "attn.to_add_out": "txt_attn.proj",
        "attn.to_out": "linear2",
        "attn.norm_added_q.weight": "txt_attn.norm.query_norm.scale",
        "attn.norm_added_k.weight": "txt_attn.norm.key_norm.scale",
        "x_embedder": "img_in",
        "context_embedder": "txt_in",
        "time_guidance_embed.timestep_embedder.linear_1": "time_in.in_layer",
        "time_guidance_embed.timestep_embedder.linear_2": "time_in.out_layer",
        "modulation.linear": "modulation.lin",
        "modulation_img.linear": "modulation_img.lin",
        "modulation_txt.linear": "modulation_txt.lin",
        "norm_out.linear": "final_layer.adaLN_modulation.1",
        "proj_out": "final_layer.linear",
    }
    theirs = {}
    for name, tensor in weights.items():
        if name.endswith((".to_k.weight", ".to_v.weight", ".add_k_proj.weight", ".add_v_proj.weight")):
            continue
        stream, first, others = ("img", "to_q", ("to_k", "to_v")) if "to_q.weight" in name else ("txt", "add_q_proj", ("add_k_proj", "add_v_proj"))
        if f".{first}.weight" in name:
            tensor = torch.cat([tensor, *(weights[name.replace(first, other)] for other in others)])
            name = name.replace(f"attn.{first}", f"{stream}_attn.qkv")
        for half, word in (("q", "query"), ("k", "key")):
            side = "img_attn.norm" if name.startswith("transformer_blocks") else "norm"
            name = name.replace(f"attn.norm_{half}.weight", f"{side}.{word}_norm.scale")
        for ours, makers in renamed.items():
            name = name.replace(ours, makers)
        if "adaLN" in name:
            scale, shift = tensor.chunk(2)
            tensor = torch.cat([shift, scale])
        theirs[name] = tensor.contiguous()
    return theirs


def test_the_offers_are_as_large_as_their_makers_say():
    sizes = []
    for offer in FAMILY.offers:
        with torch.device("meta"):
            denoiser = Flux2Transformer2DModel(**offer.denoiser)
        sizes.append(round(sum(weight.numel() for weight in denoiser.parameters()) / 1e9, 1))
        learning = [name for name, layer in denoiser.named_modules() if any(name == end or name.endswith(f".{end}") for end in FAMILY.target_modules)]
        blocks = len(denoiser.transformer_blocks), len(denoiser.single_transformer_blocks)
        assert len(learning) == 8 * blocks[0] + 2 * blocks[1]
        assert all(isinstance(denoiser.get_submodule(name), torch.nn.Linear) for name in learning)
    assert sizes == [3.9, 9.1, 32.2]
