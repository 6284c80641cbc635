"""What is Z-Image's own beside what every family promises."""

import pytest
import torch
from safetensors.torch import save_file

from studio.families.z_image import _without_padding
from tests.families import members
from tests.families.members import noise


@pytest.fixture
def z_image(tiny):
    return tiny("z-image")


def test_a_batch_of_long_and_short_texts_is_what_the_model_computes_from_lists(z_image):
    family, pipeline = z_image.family, z_image.pipeline
    noisy, t = noise((3, 16, 6, 10)), torch.tensor([20.0, 500.0, 999.0])
    with torch.no_grad():
        conditions = family.encode_prompts(pipeline, ["a", "a cat " * 20, "b" * 600])
        ours = family.predict(pipeline.transformer, noisy, t, conditions)
        theirs = pipeline.transformer(list(noisy.unsqueeze(2)), (1000 - t) / 1000, _without_padding(conditions), return_dict=False)[0]
    torch.testing.assert_close(ours, -torch.stack(theirs).squeeze(2), atol=1e-5, rtol=1e-5)


def test_behind_the_mask_prompts_are_the_pipelines_own(z_image):
    prompts = ["a cat", "b " * 400, ""]
    with torch.no_grad():
        conditions = z_image.family.encode_prompts(z_image.pipeline, prompts)
        theirs, _ = z_image.pipeline.encode_prompt(list(prompts), do_classifier_free_guidance=False)
    assert all(torch.equal(ours, row) for ours, row in zip(_without_padding(conditions), theirs, strict=True))


def test_the_refiners_are_left_alone(z_image):
    ends = ("to_q", "to_k", "to_v", "to_out.0")
    assert members.learning_layers(z_image) == {f"layers.{layer}.attention.{end}" for layer in (0, 1) for end in ends}


SPELLINGS = {
    "kohya": ("lora_unet_layers_0_attention_to_q", "lora_down.weight", "lora_up.weight"),
    "ComfyUI": ("diffusion_model.layers.0.attention.to_q", "lora_A.weight", "lora_B.weight"),
    "ComfyUI with kohya's halves": ("diffusion_model.layers.0.attention.to_q", "lora_down.weight", "lora_up.weight"),
}


@pytest.mark.parametrize("spelling", SPELLINGS)
def test_foreign_spellings_name_the_same_layers(spelling, z_image, tmp_path):
    (layer, down, up), A, B = SPELLINGS[spelling], noise((4, 48)), noise((48, 4))
    save_file({f"{layer}.{down}": A, f"{layer}.{up}": B, f"{layer}.alpha": torch.tensor(2.0)}, tmp_path / "a.safetensors")
    members.assert_changes(tmp_path / "a.safetensors", z_image.family, "transformer.layers.0.attention.to_q", B @ A / 2)
