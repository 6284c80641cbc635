import pytest
import torch
from diffusers import ChromaTransformer2DModel
from peft import LoraConfig

from studio.adapters import fingerprint, load_adapter, read_header, refuse_other_base
from studio.errors import StudioError
from studio.families import get
from tests.families.pipelines import decoded_by_pipeline, load_tiny, noise, picture, read_back, save, stepped_by_hand, stepped_by_pipeline, teach

FAMILY = get("chroma")


@pytest.fixture(scope="module")
def member(tmp_path_factory):
    """(base, pipeline); tests leave them as they found them."""
    return load_tiny(FAMILY, tmp_path_factory.mktemp("chroma") / "tiny")


@pytest.fixture(scope="module")
def pipeline(member):
    return member[1]


@pytest.fixture(scope="module")
def spoken(pipeline):
    """Conditions of (a prompt, an empty one)."""
    with torch.no_grad():
        return FAMILY.encode_prompts(pipeline, ["a cat"]), FAMILY.encode_prompts(pipeline, [""])


def test_it_predicts_what_the_pipeline_asks_for_at_every_step(pipeline, spoken):
    start = noise((1, 4, 8, 12))
    packed = pipeline._pack_latents(start, 1, 4, 8, 12)
    masked = {
        name: rows.bool() if name.endswith("_mask") else rows
        for name, rows in FAMILY.call_arguments(*spoken, 1.0).items()
        if name != "guidance_scale"
    }
    theirs = stepped_by_pipeline(pipeline, masked | {"guidance_scale": 1.0}, packed, (64, 96), 3)
    unpacked = [pipeline._unpack_latents(latents, 64, 96, 8) for latents in theirs]
    torch.testing.assert_close(stepped_by_hand(FAMILY, pipeline, spoken[0], start), unpacked, atol=1e-5, rtol=1e-5)


def test_words_behind_the_mask_are_not_seen(pipeline, spoken):
    """One word of padding is, as the model was trained; diffusers' own mask, as numbers, hides nothing."""
    mask, ours = spoken[0]["prompt_attention_mask"], {}
    seen = int(mask.sum())
    assert mask.dtype == torch.bool and seen == len(pipeline.tokenizer("a cat").input_ids) + 1
    with torch.no_grad():
        for place in (seen - 1, seen):
            words = spoken[0]["prompt_embeds"].clone()
            words[:, place] += 5.0
            ours[place] = FAMILY.predict(pipeline.transformer, noise((1, 4, 8, 8)), torch.tensor([500.0]), spoken[0] | {"prompt_embeds": words})
        plain = FAMILY.predict(pipeline.transformer, noise((1, 4, 8, 8)), torch.tensor([500.0]), spoken[0])
    assert torch.equal(ours[seen], plain) and not torch.equal(ours[seen - 1], plain)


def test_latents_are_what_the_pipeline_decodes_backwards(pipeline, spoken, monkeypatch):
    pixels = noise((1, 3, 64, 64)).clamp(-1, 1)
    with torch.no_grad():
        mean, std = FAMILY.encode_images(pipeline, pixels)
        posterior = pipeline.vae.encode(pixels).latent_dist
    assert mean.shape == std.shape == (1, 4, 8, 8)
    torch.testing.assert_close(std, posterior.std * 0.3611)
    handed = decoded_by_pipeline(pipeline, FAMILY.call_arguments(*spoken, 1.0), pipeline._pack_latents(mean, 1, 4, 8, 8), monkeypatch)
    torch.testing.assert_close(handed, posterior.mean, atol=1e-5, rtol=1e-5)


def test_prompts_are_of_one_length_and_their_end_is_named(pipeline):
    with torch.no_grad():
        conditions = FAMILY.encode_prompts(pipeline, ["a cat", "b " * 400, ""])
    assert conditions["prompt_embeds"].shape == (3, 512, 32) and conditions["prompt_attention_mask"].shape == (3, 512)
    assert FAMILY.beyond_limit(pipeline, "abcdefgh" * 80) and not FAMILY.beyond_limit(pipeline, "a cat")


def test_a_picture_drawn_twice_is_the_same_and_what_is_not_wanted_changes_it(pipeline, spoken):
    first = picture(FAMILY, pipeline, *spoken)
    assert torch.equal(first, picture(FAMILY, pipeline, *spoken)) and first.std() > 0
    with torch.no_grad():
        assert not torch.equal(first, picture(FAMILY, pipeline, spoken[0], FAMILY.encode_prompts(pipeline, ["zzz " * 20])))


def test_a_lora_is_read_back_by_the_plain_pipeline(member, spoken, tmp_path, monkeypatch):
    base, plain = member
    pipeline, reader = FAMILY.load(base, torch.float32), FAMILY.load(base, torch.float32)
    tensors = teach(FAMILY, pipeline, LoraConfig(r=4, lora_alpha=4, target_modules=list(FAMILY.target_modules)))
    path = save(FAMILY, base, tmp_path / "a.safetensors", tensors)
    assert read_back(reader, path, monkeypatch) == ([], [])
    drawn = picture(FAMILY, reader, *spoken)
    assert torch.equal(drawn, picture(FAMILY, pipeline, *spoken)) and not torch.equal(drawn, picture(FAMILY, plain, *spoken))
    # The keys fit FLUX.1 as well; what the studio writes says which it is.
    assert len(load_adapter(path, FAMILY).layers) == len(tensors) // 2
    with pytest.raises(StudioError, match="made for Chroma; the chosen base is FLUX.1"):
        load_adapter(path, get("flux"))


def test_a_lora_of_another_family_is_refused_by_name(member, tmp_path):
    layer = "transformer.single_transformer_blocks.0.norm.linear"
    path = save(
        FAMILY, member[0], tmp_path / "a.safetensors", {f"{layer}.lora_A.weight": noise((4, 3072)), f"{layer}.lora_B.weight": noise((9216, 4))}
    )
    with pytest.raises(StudioError, match="made for FLUX.1; the chosen base is Chroma[.]"):
        refuse_other_base("a", fingerprint(read_header(path)), FAMILY, member[0])


def test_a_tokenizer_in_the_older_format_asks_for_its_packages(member, tmp_path, monkeypatch):
    base, _ = member
    (base.path / "tokenizer" / "spiece.model").write_bytes(b"")
    FAMILY.load(base, torch.float32)
    (base.path / "tokenizer" / "tokenizer.json").rename(tmp_path / "kept")
    monkeypatch.setattr("transformers.utils.is_sentencepiece_available", lambda: False)
    with pytest.raises(StudioError, match="pip install sentencepiece protobuf"):
        FAMILY.load(base, torch.float32)
    (tmp_path / "kept").rename(base.path / "tokenizer" / "tokenizer.json")
    (base.path / "tokenizer" / "spiece.model").unlink()


def test_the_offer_is_as_large_as_its_makers_say():
    with torch.device("meta"):
        denoiser = ChromaTransformer2DModel(**FAMILY.offers[0].denoiser)
    assert round(sum(weight.numel() for weight in denoiser.parameters()) / 1e9, 1) == 8.9
