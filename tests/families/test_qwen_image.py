"""What is Qwen-Image's own beside what every family promises."""

import pytest
import torch
from diffusers.utils import convert_state_dict_to_kohya
from safetensors.torch import save_file

from tests.families import members
from tests.families.members import spoken
from tests.tiny import lora_tensors


@pytest.fixture
def qwen(tiny):
    return tiny("qwen-image")


def test_an_empty_prompt_is_a_space(qwen):
    empty, space, short = (spoken(qwen, text) for text in ("", " ", "a cat"))
    assert all(torch.equal(empty[name], space[name]) for name in empty)
    assert short["prompt_embeds_mask"].sum() == empty["prompt_embeds_mask"].sum() + 4


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
    members.assert_read_as(tmp_path / "a.safetensors", qwen.family, tensors)


def test_the_layers_that_learn_are_the_attention_and_feed_forward_of_both_streams(qwen):
    assert members.learning_layers(qwen) == {f"transformer_blocks.{block}.{end}" for block in (0, 1) for end in qwen.family.target_modules}
