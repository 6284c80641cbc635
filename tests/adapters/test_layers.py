"""Trainable layers in a model: which are put in, and by whose means."""

import ast
import sys
from pathlib import Path

import pytest
import torch
from peft import LoraConfig
from torch import nn

from studio.adapters.layers import enable, inject
from studio.core.errors import StudioError
from tests.forked import start

ROOT = Path(__file__).parents[2]
MIXIN_METHODS = {
    *("add_adapter", "set_adapter", "set_adapters", "load_adapter", "delete_adapters", "disable_adapters", "enable_adapters"),
    *("disable_lora", "enable_lora", "fuse_lora", "load_lora_adapter", "unload_lora", "active_adapters"),
}
"""Adapter methods of diffusers' and transformers' models: each release of those may ask for a PEFT that is not out yet."""


def tiny() -> nn.Module:
    torch.manual_seed(0)
    return nn.ModuleDict({"to_q": nn.Linear(4, 4), "norm": nn.LayerNorm(4)})


def test_no_adapter_method_of_diffusers_or_transformers_models_is_called():
    called = set()
    for path in [*(ROOT / "studio").rglob("*.py"), ROOT / "app.py"]:
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute) and node.func.attr in MIXIN_METHODS:
                called.add(f"{path.name}: {ast.unparse(node.func)}")
    # PEFT's own layers are switched by a method of the same name.
    assert called == {"layers.py: layer.enable_adapters"}


def test_a_text_encoder_is_trainable_with_the_installed_versions():
    """transformers 5.24 refuses its own add_adapter under every PEFT that exists; injecting does not ask."""
    from transformers import CLIPTextConfig, CLIPTextModel

    encoder = CLIPTextModel(CLIPTextConfig(vocab_size=8, hidden_size=8, intermediate_size=8, num_hidden_layers=1, num_attention_heads=2))
    inject(encoder, LoraConfig(r=2, target_modules=["q_proj"]))
    assert {name.split(".")[-3] for name, weight in encoder.named_parameters() if weight.requires_grad} == {"lora_A", "lora_B"}


def test_layers_that_are_switched_off_compute_what_the_base_computes_and_train_again_afterwards():
    module, x = tiny(), torch.randn(3, 4)
    before = module["to_q"](x)
    inject(module, LoraConfig(r=2, target_modules=["to_q"], init_lora_weights=False))
    with_lora = module["to_q"](x)
    enable(module, False)
    assert torch.equal(module["to_q"](x), before)
    enable(module, True)
    assert torch.equal(module["to_q"](x), with_lora) and not torch.equal(with_lora, before)
    assert sum(weight.requires_grad for weight in module.parameters()) == 2


@pytest.mark.parametrize("names", [["to_z"], ["norm"]], ids=["no layer of that name", "a kind that PEFT cannot adapt"])
def test_target_modules_that_cannot_be_trained_are_named(names):
    with pytest.raises(StudioError, match=names[0]):
        inject(tiny(), LoraConfig(r=2, target_modules=names))


def _import_without_compiler() -> None:
    """In a process that has imported the training loop and nothing else."""
    assert "bitsandbytes" in sys.modules and "torch._inductor.compile_fx" not in sys.modules
    assert torch.compile.__module__ == "torch", "restored after the import"


@pytest.mark.skipif(sys.platform in ("darwin", "win32"), reason="bitsandbytes compiles on a Mac; no process is forked on Windows")
def test_a_training_begins_without_importing_the_compiler():
    process = start(_import_without_compiler)
    process.join(60)
    assert process.exitcode == 0
