"""What is Stable Diffusion 3.5's own beside what every family promises."""

import pytest

from studio.adapters import info
from studio.adapters.format import check_base_compatibility, fingerprint, read_header
from studio.core.errors import StudioError
from tests.families import members
from tests.tiny import lora_tensors


@pytest.fixture
def sd3(tiny):
    return tiny("sd3")


def test_a_member_of_another_width_is_refused_by_name(sd3, tiny, tmp_path):
    wide = tiny("sd3: wider")
    assert (sd3.family.width(sd3.base), sd3.family.width(wide.base)) == (16, 24)
    tensors = lora_tensors(sd3.pipeline, targets=sd3.family.target_modules, part="transformer")
    found = fingerprint(read_header(members.save_lora(sd3, tmp_path / "a.safetensors", tensors)))
    check_base_compatibility("a", found, sd3.family, sd3.base)
    with pytest.raises(StudioError, match="3.5 model of width 16; the chosen base is a Stable Diffusion 3.5 model of width 24"):
        check_base_compatibility("a", found, sd3.family, wide.base)


def test_members_are_called_by_their_names(sd3):
    large = info.Fingerprint("sd3", "Stable Diffusion 3.5", 4, 4, 2432, 1)
    with pytest.raises(StudioError, match="made for Stable Diffusion 3.5 large"):
        check_base_compatibility("a", large, sd3.family, sd3.base)
    assert [sd3.family.member_title(offer.width) for offer in sd3.family.offers] == [offer.name for offer in sd3.family.offers]
    assert sd3.family.member_title(1536) == "Stable Diffusion 3.5 medium"


def test_the_layers_that_learn_are_the_attention_and_feed_forward_of_both_streams(sd3):
    first = {f"transformer_blocks.0.{end}" for end in sd3.family.target_modules}
    # The last block gives no words on.
    last = {f"transformer_blocks.1.{end}" for end in sd3.family.target_modules if end != "attn.to_add_out" and "context" not in end}
    assert members.learning_layers(sd3) == first | last
