"""PEFT's layers in a model: injected, switched on and off. The one place that calls PEFT to change a model.

PEFT's own functions, not the adapter methods of diffusers' and transformers' models: those refuse to run unless PEFT has the version they were
released with.
"""

from peft import LoKrConfig, LoraConfig, PeftConfig, inject_adapter_in_model
from peft.tuners.tuners_utils import BaseTunerLayer
from torch import nn

from studio.core.errors import StudioError


def peft_config(method: str, rank: int, alpha: float, dropout: float, target_modules: list[str]) -> LoraConfig | LoKrConfig:
    """`method` is lora, dora or lokr. Every random number that PEFT draws from it is overwritten afterwards."""
    if method == "lokr":
        return LoKrConfig(r=rank, alpha=alpha, target_modules=target_modules, module_dropout=dropout)
    return LoraConfig(r=rank, lora_alpha=alpha, lora_dropout=dropout, target_modules=target_modules, use_dora=method == "dora")


def inject(module: nn.Module, config: PeftConfig) -> None:
    """Put PEFT's layers into `module`, in place, and leave only them trainable.

    StudioError when `config.target_modules` names layers that the module has none of, or of a kind that PEFT cannot adapt.
    """
    try:
        inject_adapter_in_model(config, module)
    except ValueError as error:
        names = ", ".join(sorted(config.target_modules))
        raise StudioError(f"These target modules cannot be trained: {names}. Leave the field empty to train the usual ones. ({error})") from None


def enable(module: nn.Module, on: bool) -> None:
    """Switch the injected layers of `module` on or off; while off, it computes what the base alone computes."""
    for layer in module.modules():
        if isinstance(layer, BaseTunerLayer):
            layer.enable_adapters(on)
