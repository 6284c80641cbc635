"""What every family owes to diffusers' own pipeline of its base: the same latents, words, steps and pictures, and LoRAs that it reads back."""

import copy
import json
from collections.abc import Callable
from dataclasses import replace

import pytest
import torch
from diffusers import DDIMScheduler
from peft import LoKrConfig
from safetensors.torch import load_file

from studio.adapters import fingerprint, load_adapter, read_header, refuse_other_base, write_adapter
from studio.encodings import Encodings
from studio.errors import StudioError
from studio.families import FAMILIES
from studio.stack import Stack
from tests.families import members
from tests.families.members import KINDS, Member, draw, noise, spoken

DISCRETE = ["stable-diffusion", "stable-diffusion: 2.x", "sdxl"]
FLOWS = [kind for kind in KINDS if kind not in DISCRETE]
MASKED = ["qwen-image", "z-image", "krea-2", "krea-2: distilled", "chroma"]
"""Kinds whose prompts are filled up with what is not to be read."""

TEXTS = ("", "a cat", "a cat sits", "long words " * 60)

LENGTHS = {
    "stable-diffusion": 24,
    "sdxl": 24,
    "sd3": 24 + 256,
    # 256, and what the tiny tokenizer's closing is longer than the real one's five tokens.
    "krea-2": 256 - 5 + 13,
}
"""Of a prompt in tokens, where it is not 512; the tiny CLIPs read 24."""

UNBROKEN = "abcdefgh" * 80
TOO_LONG = dict.fromkeys(("stable-diffusion", "sdxl"), " ".join(UNBROKEN))
"""Where CLIP alone reads, words of one letter: the last letter of its words is another token than the same one inside."""

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
    **dict.fromkeys(("stable-diffusion", "stable-diffusion: 2.x", "sdxl", "sd3", "sd3: wider", "flux2", "chroma"), classic),
    **dict.fromkeys(("z-image", "krea-2", "krea-2: distilled"), beyond),
    "qwen-image": as_long,
}
"""How what is said for a prompt and for a negative one becomes one, in the pipeline's tokens; the others are told their guidance."""

LOKR = {
    "of a few numbers": (2, {"decompose_both": True, "decompose_factor": 8}),
    "as it comes": (4, {"decompose_both": False, "decompose_factor": -1}),
}

TAKEN_FOR = [
    ("chroma", "transformer.single_transformer_blocks.0.norm.linear", (9216, 3072), "FLUX.1"),
    ("z-image", "transformer.single_transformer_blocks.0.attn.to_qkv_mlp_proj", (27648, 3072), "FLUX.2"),
    ("qwen-image", "transformer.transformer_blocks.0.ff.net.2", (4, 4), "Stable Diffusion 3.5"),
]
"""Family of the base, a layer that it does not have, its matrix, and who has such a layer."""


@pytest.fixture(params=KINDS)
def one(request, tiny) -> Member:
    return tiny(request.param)


def of_kinds(chosen: list[str]):
    return pytest.mark.parametrize("one", chosen, indirect=True)


def unguided(one: Member) -> float:
    return UNGUIDED.get(one.family.name, 1.0)


def asked(one: Member, prompt: str) -> dict:
    """What the pipeline is called with to encode a prompt for itself, at its own length, and to draw it without guidance."""
    scale = unguided(one)
    if one.family.name not in ITS_MASK_IN_NUMBERS:
        return {"prompt": prompt, **one.family.code_arguments(scale)}
    return with_masks(one.family.call_arguments(spoken(one, prompt), spoken(one, ""), scale))


def with_masks(arguments: dict) -> dict:
    """The same with every mask as yes and no."""
    return {name: rows.bool() if name.endswith("_mask") and rows is not None else rows for name, rows in arguments.items()}


def predicted(one: Member, latents_BCHW: torch.Tensor, t: torch.Tensor, conditions: dict[str, torch.Tensor]) -> torch.Tensor:
    with torch.no_grad():
        return one.family.predict(one.denoiser, latents_BCHW, t.expand(len(latents_BCHW)), conditions)


def pictures(count: int) -> torch.Tensor:
    return torch.rand(count, 3, members.HEIGHT, members.WIDTH, generator=members.chance(0)) * 2 - 1


@torch.no_grad()
def test_latents_are_decoded_by_the_pipeline_as_they_were_encoded(one, monkeypatch):
    """The mean is what the autoencoder said, and so is what lies one standard deviation away."""
    pixels, vae = pictures(1), one.pipeline.vae
    mean, std = one.family.encode_images(one.pipeline, pixels)
    assert mean.shape == std.shape == (1, *one.latent_shape) and (std > 0).all()
    posterior = vae.encode(members.frames(one, pixels)).latent_dist
    handed, shown = members.decoded_by_the_pipeline(one, mean, monkeypatch)
    torch.testing.assert_close(handed, posterior.mean)
    straight = vae.decode(posterior.mean).sample.reshape(shown.shape)
    torch.testing.assert_close(shown, (straight / 2 + 0.5).clamp(0, 1))
    away, _ = members.decoded_by_the_pipeline(one, mean + std, monkeypatch)
    torch.testing.assert_close(away - handed, posterior.std)


@torch.no_grad()
def test_pictures_are_encoded_one_like_the_other(one):
    pixels = pictures(2)
    together, _ = one.family.encode_images(one.pipeline, pixels)
    alone = [one.family.encode_images(one.pipeline, picture[None])[0] for picture in pixels]
    torch.testing.assert_close(together, torch.cat(alone), rtol=1e-4, atol=1e-5)


# Tokens of the picture that fill whole groups of 32, and some that do not; texts shorter and longer than one.
@pytest.mark.parametrize("size", [(64, 128), (80, 96)], ids=["32 tokens", "30 tokens"])
@pytest.mark.parametrize("prompt", ["a", "a cat " * 20], ids=["short", "long"])
def test_a_prediction_is_the_pipelines_own_at_every_step_and_padding_says_nothing(one, size, prompt, monkeypatch):
    conditions = spoken(one, prompt)
    steps = members.steps_of(one, asked(one, prompt), size, 3, monkeypatch)
    assert len(steps) == 3
    for latents, t, theirs in steps:
        torch.testing.assert_close(predicted(one, latents, t, conditions), theirs, atol=1e-5, rtol=1e-5)


@of_kinds(list(GUIDANCE))
def test_the_negative_prompt_is_what_guidance_leads_away_from(one, monkeypatch):
    size, wanted, unwanted = (members.HEIGHT, members.WIDTH), spoken(one, "a cat"), spoken(one, "a dog")
    arguments = with_masks(one.family.call_arguments(wanted, unwanted, 3.0))
    (latents, t, theirs), *_ = members.steps_of(one, arguments, size, 2, monkeypatch)
    said = (one.packed(predicted(one, latents, t, conditions)) for conditions in (wanted, unwanted))
    torch.testing.assert_close(GUIDANCE[one.kind](*said, 3.0), one.packed(theirs), rtol=1e-4, atol=1e-4)


def test_prompts_are_of_one_length_and_of_one_kind_alone_or_together(one):
    texts = list(TEXTS)
    alone = [spoken(one, text) for text in texts]
    with torch.no_grad():
        together = one.family.encode_prompts(one.pipeline, texts)
    assert texts == list(TEXTS)
    shapes = one.family.input_shapes(one.denoiser.config, (members.HEIGHT, members.WIDTH))
    assert all(conditions.keys() == shapes.keys() - {"latents"} for conditions in (*alone, together))
    for name, rows in together.items():
        of_tokens = name == "prompt_embeds" or name.endswith("_mask")
        shape = (LENGTHS.get(one.family.name, 512), *shapes[name][1:]) if of_tokens else shapes[name]
        assert rows.shape == (len(texts), *shape) and all(conditions[name].shape == (1, *shape) for conditions in alone)
        torch.testing.assert_close(rows, torch.cat([conditions[name] for conditions in alone]), atol=1e-5, rtol=1e-5)
        if name.endswith("_mask"):
            _, short, longer, cut = rows.sum(1).tolist()
            assert rows.dtype == torch.bool and longer == short + len(" sits") and cut == shape[0]


@of_kinds(MASKED)
def test_words_behind_the_mask_are_not_seen(one):
    conditions, latents, t = spoken(one, "a cat"), noise((1, *one.latent_shape)), torch.tensor([500.0])
    (mask,) = (rows[0] for name, rows in conditions.items() if name.endswith("_mask"))
    plain = predicted(one, latents, t, conditions)
    for places, heard in ((mask, True), (~mask, False)):
        for place in places.nonzero()[[0, -1], 0]:
            words = conditions["prompt_embeds"].clone()
            words[:, place] += 5.0
            assert torch.equal(predicted(one, latents, t, conditions | {"prompt_embeds": words}), plain) is not heard


def test_conditions_are_kept_on_the_disk_as_they_are(one, tmp_path):
    base = replace(one.base, revision="0" * 40)
    cache = Encodings(tmp_path / "cache", base, one.family, torch.device("cpu"), torch.float32)
    computed, read = cache.conditions("a cat"), cache.conditions("a cat")
    assert read.keys() == computed.keys()
    assert all(read[name].dtype == rows.dtype and torch.equal(read[name], rows) for name, rows in spoken(one, "a cat").items())


def test_what_is_cut_off_a_prompt_is_what_changes_nothing(one):
    prompt = TOO_LONG.get(one.family.name, UNBROKEN)
    cut = one.family.beyond_limit(one.pipeline, prompt)
    read = prompt.removesuffix(cut)
    assert cut and read != prompt
    assert one.family.beyond_limit(one.pipeline, read) == "" and one.family.beyond_limit(one.pipeline, "a cat") == ""
    whole, kept, less = (spoken(one, text) for text in (prompt, read, read.rstrip()[:-1]))
    assert all(torch.equal(whole[name], kept[name]) for name in whole)
    assert not torch.equal(whole["prompt_embeds"], less["prompt_embeds"])


def test_the_same_picture_is_drawn_twice_and_guidance_steers_it(one):
    first = draw(one)
    assert torch.equal(first, draw(one)) and first.float().std() > 0
    assert not torch.equal(first, draw(one, "a house")) and not torch.equal(first, draw(one, seed=2))
    assert not torch.equal(first, draw(one, guidance_scale=8.0))
    index = json.loads((one.base.path / "model_index.json").read_text())
    assert one.family.uses_negative_prompt(index, one.denoiser.config) == (one.kind in GUIDANCE)
    assert torch.equal(first, draw(one, negative_prompt="a dog")) == (one.kind not in GUIDANCE)
    without, off = draw(one, guidance_scale=unguided(one)), unguided(one)
    assert torch.equal(without, draw(one, negative_prompt="a dog", guidance_scale=off)) and not torch.equal(without, first)


@of_kinds(FLOWS)
@pytest.mark.parametrize("size", [(members.HEIGHT, members.WIDTH), (128, 128)], ids=["small", "larger"])
def test_the_objective_of_a_flow_is_the_schedulers_line_from_picture_to_noise(one, size, monkeypatch):
    objective = one.family.objective(one.pipeline, torch.device("cpu"))
    # What moves to this level by the pipeline's own shift. FLUX.2's depends on the number of steps, too, and is ours for 200 of them.
    ((latents, t, _),) = members.steps_of(one, asked(one, "a cat") | {"sigmas": [0.3]}, size, 200, monkeypatch)
    level = {"uniform": torch.tensor([0.3]), "logit_normal": torch.special.ndtr(torch.logit(torch.tensor([0.3])))}[objective.density]
    t_B = objective.timesteps(level, tuple(latents.shape[2:]))
    torch.testing.assert_close(t_B, t[None])

    scheduler = copy.deepcopy(one.pipeline.scheduler)
    assert scheduler.sigmas[-1] == 0
    scheduler.set_begin_index(0)
    scheduler._step_index = None
    picture, chaos = noise(latents.shape, 1), noise(latents.shape, 2)
    noisy = objective.add_noise(picture, chaos, t_B)
    torch.testing.assert_close(noisy, scheduler.scale_noise(picture, t[None], chaos))
    torch.testing.assert_close(scheduler.step(objective.target(picture, chaos, t_B), t, noisy).prev_sample, picture)


@of_kinds(DISCRETE)
def test_the_objective_of_a_discrete_schedule_leads_the_scheduler_back_to_the_picture(one):
    objective, scheduler = one.family.objective(one.pipeline, torch.device("cpu")), DDIMScheduler.from_config(one.pipeline.scheduler.config)
    assert objective.prediction_type == one.family.prediction_type(one.base) == scheduler.config.prediction_type
    scheduler.set_timesteps(1000)
    for t_B in objective.timesteps(torch.tensor([[0.0], [0.3], [0.9]]), one.latent_shape[1:]):
        picture, chaos = noise((1, *one.latent_shape), 1), noise((1, *one.latent_shape), 2)
        noisy = objective.add_noise(picture, chaos, t_B)
        torch.testing.assert_close(noisy, scheduler.add_noise(picture, chaos, t_B))
        origin = scheduler.step(objective.target(picture, chaos, t_B), t_B[0], noisy).pred_original_sample
        torch.testing.assert_close(origin, picture, rtol=1e-5, atol=1e-5)


def test_what_every_part_learnt_is_read_back_by_diffusers(one, tmp_path):
    """Every tensor of the file and no other is put in place, and the picture is that of the run, of the studio's stack as well."""
    plain = draw(one)
    with members.taught(one, members.low_rank(one)) as tensors:
        learnt = draw(one)
    adapter = load_adapter(members.save_lora(one, tmp_path / "a.safetensors", tensors), one.family)
    parts = {name.partition(".")[0] for name in adapter.layers}
    assert parts == set(members.learning_parts(one)) and len(adapter.layers) == len(tensors) // 2
    width = one.family.width(one.base)
    assert (adapter.fingerprint.family, adapter.fingerprint.width, adapter.fingerprint.rank) == (one.family.name, width, 4)

    with members.read_by_diffusers(one, tmp_path / "a.safetensors") as placed:
        theirs = draw(one)
    stored = load_file(tmp_path / "a.safetensors")
    assert placed.keys() == stored.keys() == tensors.keys()
    assert all(torch.equal(placed[name], stored[name]) and torch.equal(stored[name], tensors[name]) for name in tensors)
    assert torch.equal(theirs, learnt) and not torch.equal(theirs, plain)

    stack = Stack({part: one.pipeline.components[part] for part in parts})
    assert stack.set([(adapter, 1.0)]).unmatched == {}
    ours = draw(one)
    stack.clear()
    torch.testing.assert_close(ours, theirs, rtol=0, atol=1)
    assert torch.equal(draw(one), plain)


@of_kinds([family.name for family in FAMILIES if family.reads_lokr])
@pytest.mark.parametrize("settings", LOKR)
def test_a_lokr_with_its_alpha_folded_in_is_read_back_by_diffusers(one, settings, tmp_path):
    part, (rank, shared) = one.family.denoiser_name, LOKR[settings]
    shared = {"r": rank, "target_modules": sorted(one.family.target_modules), **shared}
    with members.taught(one, {part: LoKrConfig(alpha=3 * rank, **shared)}) as tensors:
        learnt = draw(one)
    folded = {name: tensor * 3 if name.endswith((".lokr_w1", ".lokr_w1_a")) else tensor for name, tensor in tensors.items()}
    stated = {f"{part}.{key}": value for key, value in {**shared, "alpha": rank, "peft_type": "LOKR"}.items()}
    write_adapter(tmp_path / "a.safetensors", folded, {"format": "pt", "lora_adapter_metadata": json.dumps(stated)})
    with members.read_by_diffusers(one, tmp_path / "a.safetensors") as placed:
        assert placed.keys() == folded.keys() and all(torch.equal(placed[name], folded[name]) for name in folded)
        assert torch.equal(draw(one), learnt)
    assert not torch.equal(draw(one), learnt)


@pytest.mark.parametrize(("kind", "layer", "matrix", "owner"), TAKEN_FOR, ids=[kind for kind, *_ in TAKEN_FOR])
def test_a_lora_of_another_family_is_refused_by_name_whatever_it_says_it_is(kind, layer, matrix, owner, tiny, tmp_path):
    one, (rows, columns) = tiny(kind), matrix
    tensors = {f"{layer}.lora_A.weight": noise((4, columns)), f"{layer}.lora_B.weight": noise((rows, 4))}
    for path in (tmp_path / "stated.safetensors", tmp_path / "bare.safetensors"):
        members.save_lora(one, path, tensors) if path.stem == "stated" else write_adapter(path, tensors, {})
        with pytest.raises(StudioError, match=f"made for {owner}; the chosen base is {one.family.title}[.]"):
            refuse_other_base("a", fingerprint(read_header(path)), one.family, one.base)
