"""Injection of PEFT layers into a model, and switching them on and off. The only module that modifies models through PEFT.

It uses PEFT's own functions, because the adapter methods of diffusers' and transformers' models require the PEFT version that they were released
with.
"""

from studio.adapters import quick_peft  # noqa: F401, I001 - before PEFT
from peft import LoKrConfig, LoraConfig, PeftConfig, inject_adapter_in_model
from peft.tuners.tuners_utils import BaseTunerLayer
from torch import nn

from studio.core.errors import StudioError


def peft_config(method: str, rank: int, alpha: float, dropout: float, target_modules: list[str]) -> LoraConfig | LoKrConfig:
    """`method` is lora, dora or lokr. PEFT's random initial weights are overwritten afterwards."""
    if method == "lokr":
        return LoKrConfig(r=rank, alpha=alpha, target_modules=target_modules, module_dropout=dropout)
    return LoraConfig(r=rank, lora_alpha=alpha, lora_dropout=dropout, target_modules=target_modules, use_dora=method == "dora")


def inject(module: nn.Module, config: PeftConfig) -> None:
    """Inject PEFT layers into `module`, in place; only they are trainable.

    StudioError if `config.target_modules` matches no layers, or layers of a type that PEFT does not support.
    """
    try:
        inject_adapter_in_model(config, module)
    except ValueError as error:
        names = ", ".join(sorted(config.target_modules))
        raise StudioError(f"These target modules cannot be trained: {names}. Leave the field empty to train the usual ones. ({error})") from None


def enable(module: nn.Module, on: bool) -> None:
    """Enable or disable the injected layers of `module`; when disabled it computes the same as the base."""
    for layer in module.modules():
        if isinstance(layer, BaseTunerLayer):
            layer.enable_adapters(on)
