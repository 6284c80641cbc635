"""What is FLUX.1's own beside what every family promises."""

import torch
from safetensors.torch import save_file

from studio.adapters.format import load_adapter
from studio.adapters.stack import Stack
from tests.families.members import noise

KOHYA = {
    "lora_te1_text_model_encoder_layers_0_self_attn_q_proj": "text_encoder.text_model.encoder.layers.0.self_attn.q_proj",
    "lora_te1_text_model_encoder_layers_0_mlp_fc1": "text_encoder.text_model.encoder.layers.0.mlp.fc1",
    "lora_unet_double_blocks_0_img_attn_proj": "transformer.transformer_blocks.0.attn.to_out.0",
}
"""kohya's name of a layer -> its name in a studio's file."""


def test_clip_in_a_kohya_file_is_read_with_its_alpha(tiny, tmp_path):
    flux, tensors = tiny("flux"), {}
    stack = Stack({part: flux.pipeline.components[part] for part in ("transformer", "text_encoder")})
    for index, (name, ours) in enumerate(KOHYA.items()):
        layer = stack._modules[ours]
        tensors |= {f"{name}.lora_down.weight": noise((4, layer.in_features), index), f"{name}.lora_up.weight": noise((layer.out_features, 4), index)}
        tensors[f"{name}.alpha"] = torch.tensor(2.0)
    save_file(tensors, tmp_path / "a.safetensors")
    adapter = load_adapter(tmp_path / "a.safetensors", flux.family)
    assert adapter.layers.keys() == set(KOHYA.values())
    for name, ours in KOHYA.items():
        assert torch.equal(adapter.layers[ours].A, tensors[f"{name}.lora_down.weight"])
        assert torch.equal(adapter.layers[ours].B, tensors[f"{name}.lora_up.weight"] / 2)
    assert stack.set([(adapter, 1.0)]).unmatched == {}
    stack.clear()
