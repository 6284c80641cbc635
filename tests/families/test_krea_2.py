"""What is Krea 2's own beside what every family promises."""

import pytest
import torch
from safetensors.torch import save_file

from studio.adapters.format import load_adapter
from studio.core.errors import StudioError
from tests.families import members
from tests.families.members import spoken
from tests.tiny import lora_tensors


@pytest.fixture
def krea(tiny):
    return tiny("krea-2")


def test_nothing_but_the_prompts_own_words_is_read(krea):
    empty, short = (spoken(krea, text)["prompt_embeds_mask"].sum() for text in ("", "a cat"))
    assert short == empty + 5


def test_noise_levels_are_practised_evenly(krea):
    assert krea.family.objective(krea.pipeline, torch.device("cpu")).density == "uniform"


def test_the_distilled_one_has_one_shift_for_all_sizes(tiny):
    turbo = tiny("krea-2: distilled")
    objective = turbo.family.objective(turbo.pipeline, torch.device("cpu"))
    small, large = (objective.timesteps(torch.tensor([0.3]), size) for size in ((8, 12), (128, 128)))
    assert torch.equal(small, large)


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
    members.assert_read_as(tmp_path / "a.safetensors", krea.family, tensors)


def test_kohyas_names_which_nobody_translates_are_refused(krea, tmp_path):
    halves = {"lora_unet_blocks_0_attn_wq.lora_down.weight": torch.ones(4, 32), "lora_unet_blocks_0_attn_wq.lora_up.weight": torch.ones(32, 4)}
    save_file(halves, tmp_path / "a.safetensors")
    with pytest.raises(StudioError, match="layers with unknown names"):
        load_adapter(tmp_path / "a.safetensors", krea.family)


def test_the_layers_that_learn_are_the_attention_and_feed_forward_of_blocks(krea):
    blocks = ("transformer_blocks.0", "transformer_blocks.1", "text_fusion.layerwise_blocks.0", "text_fusion.refiner_blocks.0")
    assert members.learning_layers(krea) == {f"{block}.{end}" for block in blocks for end in krea.family.target_modules}
