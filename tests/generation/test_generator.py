import dataclasses
import gc
import io

import numpy
import pytest
import torch
from diffusers import StableDiffusionPipeline

from studio import families
from studio.benchmark.models import save_tiny
from studio.config.recipe import Recipe
from studio.core.errors import StudioError
from studio.devices import memory
from studio.devices.footprint import ON_GPU, PLACEMENTS, GenerationFootprint, Placement
from studio.devices.measure import measure_generation
from studio.generation import generator as generation
from studio.generation.generator import Generator
from studio.generation.model_cache import ModelCache
from tests.tiny import FAMILY, lora_tensors, save_lora, tiny_base, tiny_pipeline  # noqa: F401 - fixtures

RECIPE = Recipe(prompt="a red cat", negative_prompt="blue", seed=5, num_inference_steps=3)


@pytest.fixture
def generator(tiny_base, tiny_pipeline):  # noqa: F811
    made = Generator(tiny_base, FAMILY, pipeline=tiny_pipeline)
    yield made
    made.stack.clear()


def pixels(picture):
    return numpy.asarray(picture).tolist()


def test_the_same_recipe_is_the_same_picture(tmp_path, generator, tiny_pipeline):  # noqa: F811
    lora = save_lora(tmp_path / "a.safetensors", lora_tensors(tiny_pipeline))
    first = generator.generate(RECIPE, [(lora, 0.8)])
    generator.generate(RECIPE.model_copy(update={"seed": 6}), [])
    assert pixels(generator.generate(RECIPE, [(lora, 0.8)])) == pixels(first)
    assert pixels(generator.generate(RECIPE.model_copy(update={"seed": 6}), [(lora, 0.8)])) != pixels(first)


def test_a_picture_says_which_version_of_its_base_drew_it(workspace, tiny_base, tiny_pipeline):  # noqa: F811
    models = ModelCache()
    models.device = "cpu"
    fetched = dataclasses.replace(tiny_base, revision="c0ffee")
    models.generators[(RECIPE.base_model, None)] = Generator(fetched, FAMILY, pipeline=tiny_pipeline)
    _, drawn, _ = models.generate(RECIPE, workspace, lambda done, total: None)
    assert drawn == RECIPE.model_copy(update={"revision": "c0ffee"})


def test_no_image_but_the_first_keeps_garbage_for_good(workspace, tiny_base, tiny_pipeline):  # noqa: F811
    models = ModelCache()
    models.device = "cpu"
    models.generators[(RECIPE.base_model, None)] = Generator(tiny_base, FAMILY, pipeline=tiny_pipeline)
    models.generate(RECIPE, workspace, lambda done, total: None)
    before = gc.get_freeze_count()
    models.generate(RECIPE, workspace, lambda done, total: None)
    assert gc.get_freeze_count() == before


def test_a_base_says_by_itself_which_family_draws_and_the_picture_remembers(workspace, tmp_path):
    models = ModelCache()
    models.device, models.dtype = "cpu", "float32"
    own = Recipe(prompt="a cat", base_model=str(save_tiny(families.get("sdxl"), tmp_path / "my-xl")), num_inference_steps=1, width=64, height=64)
    assert own.family == ""
    _, drawn, _ = models.generate(own, workspace, lambda done, total: None)
    assert drawn == own.model_copy(update={"family": "sdxl"}) and models.is_loaded(own) and models.is_loaded(drawn)
    models.clear()
    with pytest.raises(StudioError, match="belongs to the family 'sdxl', but the settings have 'flux'"):
        models.generate(own.model_copy(update={"family": "flux"}), workspace, lambda done, total: None)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float16])
def test_a_lora_at_full_weight_draws_as_plain_diffusers_does(dtype, tmp_path, generator, tiny_base, tiny_pipeline):  # noqa: F811
    tensors = {name: tensor.to(dtype) for name, tensor in lora_tensors(tiny_pipeline).items()}
    save_lora(tmp_path / "a.safetensors", tensors)
    plain = StableDiffusionPipeline.from_pretrained(tiny_base.path, safety_checker=None, use_safetensors=True)
    plain.set_progress_bar_config(disable=True)

    def drawn():
        seed = torch.Generator().manual_seed(5)
        return pixels(plain("a red cat", negative_prompt="blue", num_inference_steps=3, guidance_scale=5.0, generator=seed).images[0])

    base = drawn()
    assert pixels(generator.generate(RECIPE, [])) == base
    plain.load_lora_weights(tmp_path, weight_name="a.safetensors")
    assert pixels(generator.generate(RECIPE, [(tmp_path / "a.safetensors", 1.0)])) == drawn() != base


def test_a_text_encoders_lora_reaches_the_prompt_and_leaves_it_again(tmp_path, generator, tiny_pipeline):  # noqa: F811
    base = pixels(generator.generate(RECIPE, []))
    lora = save_lora(tmp_path / "t.safetensors", lora_tensors(tiny_pipeline, targets=("q_proj", "fc1"), part="text_encoder", size=2.0))
    assert pixels(generator.generate(RECIPE, [(lora, 1.0)])) != base
    assert pixels(generator.generate(RECIPE, [])) == base


def test_a_prompt_is_read_by_the_loras_of_its_own_recipe_however_many_came_before(tmp_path, generator, tiny_pipeline, monkeypatch):  # noqa: F811
    """LoRAs leave memory when others come, and the next one may lie at the same address: what was read for one is not another's."""
    monkeypatch.setattr(generation, "ADAPTERS_KEPT", 1)
    quick = RECIPE.model_copy(update={"num_inference_steps": 1})
    loras = [
        save_lora(tmp_path / f"{seed}.safetensors", lora_tensors(tiny_pipeline, seed=seed, targets=("q_proj",), part="text_encoder", size=2.0))
        for seed in range(12)
    ]
    alone = []
    for lora in loras:
        fresh = Generator(generator.base, FAMILY, pipeline=tiny_pipeline)
        alone.append(pixels(fresh.generate(quick, [(lora, 1.0)])))
        fresh.stack.clear()
    for again in range(12):
        wrong = [index for index, lora in enumerate(loras) if pixels(generator.generate(quick, [(lora, 1.0)])) != alone[index]]
        assert not wrong, f"round {again}"


def test_a_lora_that_comes_back_finds_its_prompts_read(tmp_path, generator, tiny_pipeline, monkeypatch):  # noqa: F811
    """What identifies a LoRA is what it holds, not where it lies: the file read anew, or a copy of it, is the same one."""
    asked, encode = [], FAMILY.encode_prompts
    monkeypatch.setattr(FAMILY, "encode_prompts", lambda pipeline, prompts: asked.append(prompts) or encode(pipeline, prompts))
    tensors = lora_tensors(tiny_pipeline, targets=("q_proj",), part="text_encoder", size=2.0)
    for name in ("a", "copy"):
        generator.generate(RECIPE, [(save_lora(tmp_path / f"{name}.safetensors", tensors), 1.0)])
        assert asked == [["a red cat"], ["blue"]]
    generator.generate(RECIPE, [(tmp_path / "a.safetensors", 0.5)])
    assert len(asked) == 4, "another weight reads the prompts anew"


def test_progress_is_told_and_may_stop_the_drawing(generator):
    seen = []
    generator.generate(RECIPE, [], lambda done, total: seen.append((done, total)))
    assert seen == [(1, 3), (2, 3), (3, 3)]

    def stop(done, total):
        raise StudioError("enough")

    with pytest.raises(StudioError, match="enough"):
        generator.generate(RECIPE, [], stop)


def test_the_size_is_the_recipes_or_the_bases(generator):
    assert generator.generate(RECIPE, []).size == (64, 64)
    assert generator.generate(RECIPE.model_copy(update={"width": 96, "height": 64}), []).size == (96, 64)


def test_a_changed_file_is_read_again_and_a_missing_one_named(tmp_path, generator, tiny_pipeline):  # noqa: F811
    lora = save_lora(tmp_path / "a.safetensors", lora_tensors(tiny_pipeline))
    first = pixels(generator.generate(RECIPE, [(lora, 1.0)]))
    save_lora(lora, lora_tensors(tiny_pipeline, seed=1))
    assert pixels(generator.generate(RECIPE, [(lora, 1.0)])) != first
    lora.unlink()
    with pytest.raises(StudioError, match="a.safetensors does not exist"):
        generator.generate(RECIPE, [(lora, 1.0)])


def test_a_lora_of_another_base_is_refused_and_the_base_still_draws(tmp_path, generator):
    base = pixels(generator.generate(RECIPE, []))
    wide = {"unet.a.attn2.to_k.lora_A.weight": torch.ones(4, 768), "unet.a.attn2.to_k.lora_B.weight": torch.ones(320, 4)}
    with pytest.raises(StudioError, match="made for Stable Diffusion 1.5"):
        generator.generate(RECIPE, [(save_lora(tmp_path / "sd15.safetensors", wide), 1.0)])
    assert pixels(generator.generate(RECIPE, [])) == base


def test_the_shipped_model_draws(tmp_path):
    from studio.families import BUILTIN_ID, resolve_base

    picture = Generator(resolve_base(BUILTIN_ID), FAMILY).generate(Recipe(prompt="a red house", num_inference_steps=2), [])
    assert picture.size == (128, 128)
    picture.save(io.BytesIO(), format="PNG")


def test_what_a_long_prompt_loses_is_said(generator):
    generator.generate(RECIPE.model_copy(update={"prompt": "red " * 7 + "cat"}), [])
    assert len(generator.notes) == 1 and "the end was ignored" in generator.notes[0]
    generator.generate(RECIPE, [])
    assert generator.notes == []


@pytest.mark.parametrize(("part", "size"), [("unet", 1e30), ("unet", 1e12), ("text_encoder", 1e30)])
def test_a_lora_that_draws_nothing_but_black_is_an_error_that_names_it(part, size, tmp_path, generator, tiny_pipeline):  # noqa: F811
    base = pixels(generator.generate(RECIPE, []))
    targets = FAMILY.target_modules if part == "unet" else ("q_proj", "fc1")
    tensors = {name: tensor * size for name, tensor in lora_tensors(tiny_pipeline, targets=targets, part=part).items()}
    loud, calm = save_lora(tmp_path / "loud.safetensors", tensors), save_lora(tmp_path / "calm.safetensors", lora_tensors(tiny_pipeline, seed=1))
    with pytest.raises(StudioError, match=rf"loud.*layer {part}\..*smaller weight") as refused:
        generator.generate(RECIPE, [(calm, 0.5), (loud, 1.0)])
    assert "calm" not in str(refused.value)
    assert pixels(generator.generate(RECIPE, [])) == base


def test_a_base_that_draws_nothing_but_black_is_an_error_that_names_it(tmp_path, generator, tiny_pipeline):  # noqa: F811
    lora = save_lora(tmp_path / "a.safetensors", lora_tensors(tiny_pipeline))
    bias = tiny_pipeline.vae.decoder.conv_out.bias
    whole = bias.detach().clone()
    try:
        bias.data.fill_(float("nan"))
        for stack in ([], [(lora, 1.0)]):
            with pytest.raises(StudioError, match="The base, a Stable Diffusion.*overflows in float32 even without a LoRA.*another base"):
                generator.generate(RECIPE, stack)
    finally:
        bias.data.copy_(whole)


@pytest.mark.parametrize("family", families.FAMILIES, ids=lambda family: family.name)
def test_an_image_is_the_same_wherever_the_parts_of_its_base_are(family, tmp_path):
    """On a CPU; a GPU rounds a prompt that the CPU encoded differently."""
    base = families.resolve_base(str(save_tiny(family, tmp_path / "m")))
    recipe = RECIPE.model_copy(update={"width": 64, "height": 64, "num_inference_steps": 2})
    whole = Generator(base, family)
    tensors = lora_tensors(whole.pipeline, targets=family.target_modules, part=family.denoiser_name)
    lora = save_lora(tmp_path / "a.safetensors", tensors, family=family, base=base)
    expected = pixels(whole.generate(recipe, [(lora, 0.8)]))
    for placement in PLACEMENTS[1:4]:
        spread = Generator(base, family, placement=placement, placement_note="Its parts are in RAM.")
        assert pixels(spread.generate(recipe, [(lora, 0.8)])) == expected, placement
        assert "Its parts are in RAM." in spread.notes
        assert all(spread.pipeline.components[part] is None for part in family.text_encoder_names) is placement.encoders_in_ram


def test_an_image_that_does_not_fit_is_decoded_in_tiles(generator, tiny_base, monkeypatch):  # noqa: F811
    recipe = RECIPE.model_copy(update={"width": 128, "height": 128, "num_inference_steps": 1})
    monkeypatch.setattr(generation, "TILE_SIDE", 64)
    generator.generate(recipe, [])
    assert not generator.notes
    monkeypatch.setattr(memory, "unused_bytes", lambda device: 1000)
    tiled = generator.generate(recipe, [])
    assert tiled.size == (128, 128) and "decoded in tiles: as a whole it needs 0.0 GB, and 0.0 GB is free." in generator.notes[-1]
    assert not generator.pipeline.vae.use_tiling


@pytest.mark.parametrize(
    ("gigabytes", "ram", "placement", "words"),
    [
        (80, 64, ON_GPU, ""),
        (30, 64, Placement(encoders_in_ram=True), "This base needs 35.9 GB and 30.0 GB of GPU memory is free, so prompts are encoded on the CPU."),
        (15, 64, Placement(offload=True), "so its blocks are offloaded to RAM."),
        (11, 64, Placement(encoders_in_ram=True, offload=True), "so its blocks are offloaded to RAM and prompts are encoded on the CPU."),
        (11, 16, Placement(encoders_in_ram=True, quantisation="nf4"), "so the base is quantised to nf4 and prompts are encoded on the CPU."),
        (4, 20, Placement(encoders_in_ram=True, quantisation="nf4", offload=True), "quantised to nf4, its blocks are offloaded to RAM and prompts"),
        (1, 20, Placement(encoders_in_ram=True, quantisation="nf4", offload=True), "It may still be too little."),
    ],
)
def test_a_base_is_placed_where_it_fits(gigabytes, ram, placement, words, monkeypatch):
    monkeypatch.setattr("importlib.util.find_spec", lambda name: name)
    flux = GenerationFootprint(11_900_000_000, 744_000_000, 4_900_000_000, 500_000_000, 1_500_000_000)
    chosen, note = memory.place_generation(flux, "bfloat16", gigabytes * 10**9, ram * 10**9)
    assert chosen == placement and (words in note if words else not note)


@pytest.mark.parametrize("family", [families.get(name) for name in ("stable-diffusion", "flux", "qwen-image")], ids=lambda family: family.name)
def test_the_memory_of_generating_is_measured(family, tmp_path):
    base = families.resolve_base(str(save_tiny(family, tmp_path / "m")))
    one, two = (measure_generation(family, base, (64, 64), guidance) for guidance in (False, True))
    assert two.sample_bytes == 2 * one.sample_bytes > 0 and one.base_parameters > one.resident_parameters // 2 > 0
    assert one.encoder_parameters > 0 and one.tile_bytes > 0
