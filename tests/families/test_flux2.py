"""What is FLUX.2's own beside what every family promises."""

import json
import shutil

import pytest
import torch
from diffusers import Flux2Pipeline
from safetensors.torch import save_file

from studio.adapters.format import check_base_compatibility, fingerprint, read_header
from studio.core.errors import StudioError
from studio.families import get, resolve_base
from tests.families import members
from tests.families.members import noise, spoken

FAMILY = get("flux2")


def test_dev_loads_from_its_makers_folder_without_what_a_processor_of_pictures_needs(tiny, tmp_path):
    dev = tiny("flux2: dev")
    folder = shutil.copytree(dev.base.path, tmp_path / "dev")
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
        assert torch.equal(FAMILY.encode_prompts(pipeline, ["a cat"])["prompt_embeds"], spoken(dev, "a cat")["prompt_embeds"])


def test_members_are_told_by_their_width_and_refuse_each_others_loras(tiny, tmp_path):
    klein, dev = tiny("flux2").base, tiny("flux2: dev").base
    assert (FAMILY.width(klein), FAMILY.width(dev)) == (32, 48)
    assert (FAMILY.architecture(klein), FAMILY.architecture(dev)) == ("Flux.2-klein-4b/lora", "Flux.2-dev/lora")
    assert [FAMILY.member_title(width) for width in (6144, 3072, 4096)] == ["FLUX.2 [dev]", "FLUX.2 [klein] 4B", "FLUX.2 [klein] 9B"]
    tensors = {
        "transformer.transformer_blocks.0.attn.to_q.lora_A.weight": torch.ones(4, 32),
        "transformer.transformer_blocks.0.attn.to_q.lora_B.weight": torch.ones(32, 4),
    }
    found = fingerprint(read_header(members.save_lora(tiny("flux2"), tmp_path / "a.safetensors", tensors)))
    assert (found.family, found.width) == ("flux2", 32)
    check_base_compatibility("a", found, FAMILY, klein)
    with pytest.raises(StudioError, match="made for a FLUX.2 model of width 32; the chosen base is a FLUX.2 model of width 48"):
        check_base_compatibility("a", found, FAMILY, dev)


@pytest.mark.parametrize("kind", ["flux2", "flux2: dev"])
def test_the_layers_that_learn_are_the_attention_of_double_blocks_and_all_of_single_ones(kind, tiny):
    double = {f"transformer_blocks.0.{end}" for end in FAMILY.target_modules if end.startswith("attn.") and end != "attn.to_qkv_mlp_proj"}
    single = {f"single_transformer_blocks.{block}.attn.{end}" for block in (0, 1) for end in ("to_qkv_mlp_proj", "to_out")}
    assert len(double) == 8 and members.learning_layers(tiny(kind)) == double | single


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
    (layer, down, up), A, B = SPELLINGS[spelling], noise((4, 32)), noise((288, 4))
    save_file({f"{layer}.{down}": A, f"{layer}.{up}": B, f"{layer}.alpha": torch.tensor(2.0)}, tmp_path / "a.safetensors")
    members.assert_changes(tmp_path / "a.safetensors", FAMILY, "transformer.single_transformer_blocks.0.attn.to_qkv_mlp_proj", B @ A / 2)
