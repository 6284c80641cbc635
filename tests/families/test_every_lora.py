"""What every family promises of LoRA files: diffusers reads back what was learnt, and who has a layer is known whatever the file says."""

import json

import pytest
import torch
from peft import LoKrConfig
from safetensors.torch import load_file

from studio.adapters.format import check_base_compatibility, fingerprint, load_adapter, read_header, write_adapter
from studio.adapters.stack import Stack
from studio.core.errors import StudioError
from studio.families import FAMILIES
from tests.families import members
from tests.families.members import draw, noise, of_kinds

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


def test_what_every_part_learnt_is_read_back_by_diffusers(member, tmp_path):
    """Every tensor of the file and no other is put in place, and the picture is that of the run, of the studio's stack as well."""
    plain = draw(member)
    with members.taught(member, members.low_rank(member)) as tensors:
        learnt = draw(member)
    adapter = load_adapter(members.save_lora(member, tmp_path / "a.safetensors", tensors), member.family)
    parts = {name.partition(".")[0] for name in adapter.layers}
    assert parts == set(members.learning_parts(member)) and len(adapter.layers) == len(tensors) // 2
    width = member.family.width(member.base)
    assert (adapter.fingerprint.family, adapter.fingerprint.width, adapter.fingerprint.rank) == (member.family.name, width, 4)

    with members.read_by_diffusers(member, tmp_path / "a.safetensors") as placed:
        theirs = draw(member)
    stored = load_file(tmp_path / "a.safetensors")
    assert placed.keys() == stored.keys() == tensors.keys()
    assert all(torch.equal(placed[name], stored[name]) and torch.equal(stored[name], tensors[name]) for name in tensors)
    assert torch.equal(theirs, learnt) and not torch.equal(theirs, plain)

    stack = Stack({part: member.pipeline.components[part] for part in parts})
    assert stack.set([(adapter, 1.0)]).unmatched == {}
    ours = draw(member)
    stack.clear()
    torch.testing.assert_close(ours, theirs, rtol=0, atol=1)
    assert torch.equal(draw(member), plain)


@of_kinds([family.name for family in FAMILIES if family.text_encoder_targets])
def test_text_encoders_as_transformers_5_names_them_are_read_as_well(member, tmp_path):
    """Earlier versions wrote the names of the modules in memory, without the level `text_model` where that class of CLIP has none."""
    with members.taught(member, members.low_rank(member)) as tensors:
        pass
    assert any(".text_model." in name for name in tensors)
    earlier = {name.replace("text_encoder.text_model.", "text_encoder."): tensor for name, tensor in tensors.items()}
    now, before = (
        load_adapter(members.save_lora(member, tmp_path / f"{name}.safetensors", named), member.family)
        for name, named in (("now", tensors), ("before", earlier))
    )
    assert before.fingerprint == now.fingerprint and before.layers.keys() == now.layers.keys()
    stack, drawn = Stack({part: member.pipeline.components[part] for part in members.learning_parts(member)}), []
    for adapter in (now, before):
        assert stack.set([(adapter, 1.0)]).unmatched == {}
        drawn.append(draw(member))
    stack.clear()
    assert torch.equal(*drawn) and not torch.equal(drawn[0], draw(member))


@of_kinds([family.name for family in FAMILIES if family.reads_lokr])
@pytest.mark.parametrize("settings", LOKR)
def test_a_lokr_with_its_alpha_folded_in_is_read_back_by_diffusers(member, settings, tmp_path):
    part, (rank, shared) = member.family.denoiser_name, LOKR[settings]
    shared = {"r": rank, "target_modules": sorted(member.family.target_modules), **shared}
    with members.taught(member, {part: LoKrConfig(alpha=3 * rank, **shared)}) as tensors:
        learnt = draw(member)
    folded = {name: tensor * 3 if name.endswith((".lokr_w1", ".lokr_w1_a")) else tensor for name, tensor in tensors.items()}
    stated = {f"{part}.{key}": value for key, value in {**shared, "alpha": rank, "peft_type": "LOKR"}.items()}
    write_adapter(tmp_path / "a.safetensors", folded, {"format": "pt", "lora_adapter_metadata": json.dumps(stated)})
    with members.read_by_diffusers(member, tmp_path / "a.safetensors") as placed:
        assert placed.keys() == folded.keys() and all(torch.equal(placed[name], folded[name]) for name in folded)
        assert torch.equal(draw(member), learnt)
    assert not torch.equal(draw(member), learnt)


@pytest.mark.parametrize(("kind", "layer", "matrix", "owner"), TAKEN_FOR, ids=[kind for kind, *_ in TAKEN_FOR])
def test_a_lora_of_another_family_is_refused_by_name_whatever_it_says_it_is(kind, layer, matrix, owner, tiny, tmp_path):
    member, (rows, columns) = tiny(kind), matrix
    tensors = {f"{layer}.lora_A.weight": noise((4, columns)), f"{layer}.lora_B.weight": noise((rows, 4))}
    stated = members.save_lora(member, tmp_path / "stated.safetensors", tensors)
    write_adapter(tmp_path / "bare.safetensors", tensors, {})
    for path in (stated, tmp_path / "bare.safetensors"):
        with pytest.raises(StudioError, match=f"made for {owner}; the chosen base is {member.family.title}[.]"):
            check_base_compatibility("a", fingerprint(read_header(path)), member.family, member.base)
