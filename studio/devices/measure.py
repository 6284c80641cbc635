"""Measurement of the memory footprint from the settings: one forward pass of the denoiser with its LoRA on torch's meta device.

Trainable parameters are counted; activations are the tensors that autograd saves for the backward pass. Nothing is downloaded or computed.
"""

from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn

from studio.adapters.layers import inject, peft_config
from studio.config import TrainConfig
from studio.devices.footprint import Footprint
from studio.families.base import Family
from studio.families.facts import BaseFolder
from studio.families.loading import denoiser_class

if TYPE_CHECKING:
    from diffusers import ModelMixin


def measure(config: TrainConfig, family: Family, base: BaseFolder | None) -> Footprint | None:
    """Footprint for these settings; None for a base that is neither on this computer nor known to the studio."""
    denoiser = meta_denoiser(family, config.model.base_model, base)
    if denoiser is None:
        return None
    base_parameters = sum(weight.numel() for weight in denoiser.parameters())
    trainable = inject_lora(denoiser, config, family)
    adapter_parameters = sum(weight.numel() for weight in trainable) + text_encoder_parameters(config, family, base)
    side = config.dataset.resolution
    activations = saved_activation_bytes(family, denoiser, (side, side))
    family.enable_gradient_checkpointing(denoiser)
    checkpointed = saved_activation_bytes(family, denoiser, (side, side))
    sizes = [sum(weight.numel() for weight in block.parameters() if not weight.requires_grad) for block in family.blocks(denoiser)]
    return Footprint(base_parameters, adapter_parameters, activations, checkpointed, len(sizes), base_parameters - sum(sizes) + 2 * max(sizes))


def text_encoder_parameters(config: TrainConfig, family: Family, base: BaseFolder | None) -> int:
    """Number of trainable parameters in text encoders: attention projections are square and equal in all layers."""
    if not config.lora.text_encoder:
        return 0
    if base is not None:
        configs = [base.component_config(part) for part in family.text_encoder_targets]
        sizes = [(part["num_hidden_layers"], part["hidden_size"]) for part in configs]
    else:
        known = family.offer(config.model.base_model)
        sizes = list(known.trainable_encoders) if known else []
    matrices = sum(layers * width * len(targets) for (layers, width), targets in zip(sizes, family.text_encoder_targets.values()))
    return matrices * (2 * config.lora.rank + (config.lora.method == "dora"))


def count_base_parameters(family: Family, base: BaseFolder) -> int:
    """Number of parameters of a base's denoiser."""
    return sum(weight.numel() for weight in meta_denoiser_of(family, base).parameters())


def meta_denoiser(family: Family, base_model: str, base: BaseFolder | None) -> "ModelMixin | None":
    """The denoiser on the meta device (shapes without data), in 16 bits; None for a base without a folder that the studio does not know."""
    if base is not None:
        return meta_denoiser_of(family, base)
    known = family.offer(base_model)
    if known is None or known.denoiser is None:
        return None
    with torch.device("meta"):
        return _in_sixteen_bits(denoiser_class(family)(**known.denoiser))


def meta_denoiser_of(family: Family, base: BaseFolder) -> "ModelMixin":
    """The denoiser of a base's folder on the meta device, in 16 bits."""
    config = {key: value for key, value in base.component_config(family.denoiser_name).items() if not key.startswith("_")}
    with torch.device("meta"):
        return _in_sixteen_bits(denoiser_class(family).from_config(config))


def _in_sixteen_bits(denoiser: "ModelMixin") -> "ModelMixin":
    for weight in denoiser.parameters():
        weight.data = weight.data.to(torch.bfloat16)
    return denoiser


def inject_lora(denoiser: nn.Module, config: TrainConfig, family: Family) -> list[nn.Parameter]:
    """Add the LoRA of these settings to a meta denoiser; returns the trainable parameters."""
    denoiser.requires_grad_(False)
    lora = config.lora
    inject(denoiser, peft_config(lora.method, lora.rank, lora.filled_alpha, lora.dropout, lora.target_modules or list(family.target_modules)))
    trainable = [weight for weight in denoiser.parameters() if weight.requires_grad]
    for weight in trainable:
        weight.data = weight.data.to(torch.bfloat16)
    denoiser.train()
    return trainable


def forward_once(family: Family, denoiser: "ModelMixin", size: tuple[int, int]) -> Tensor:
    """One forward pass of one image of (height, width) on the meta device."""
    shapes = family.input_shapes(denoiser.config, size)
    dtypes = {name: torch.bool if name.endswith("_mask") else torch.bfloat16 for name in shapes}
    inputs = {name: torch.empty((1, *shape), device="meta", dtype=dtypes[name]) for name, shape in shapes.items()}
    return family.predict(denoiser, inputs.pop("latents"), torch.empty(1, device="meta"), inputs)


def saved_activation_bytes(family: Family, denoiser: "ModelMixin", size: tuple[int, int]) -> int:
    """Bytes that autograd saves in one forward pass of one image: each storage once, without the weights."""
    own = {weight.untyped_storage()._cdata for weight in denoiser.parameters()}
    saved: dict[int, torch.UntypedStorage] = {}

    def save(tensor: Tensor) -> Tensor:
        storage = tensor.untyped_storage()
        if storage._cdata not in own:
            saved[storage._cdata] = storage
        return tensor

    attention = nn.functional.scaled_dot_product_attention
    nn.functional.scaled_dot_product_attention = _attention
    try:
        with torch.autograd.graph.saved_tensors_hooks(save, lambda tensor: tensor):
            forward_once(family, denoiser, size)
    finally:
        nn.functional.scaled_dot_product_attention = attention
    return sum(storage.nbytes() for storage in saved.values())


class _Fused(torch.autograd.Function):
    """Attention that saves its inputs, its output and one value per row (Dao et al. 2022); on the meta device torch would save the whole matrix."""

    @staticmethod
    def forward(ctx, query: Tensor, key: Tensor, value: Tensor) -> Tensor:
        output = query.new_empty(*query.shape[:-1], value.shape[-1])
        ctx.save_for_backward(query, key, value, output, query.new_empty(query.shape[:-1], dtype=torch.float32))
        return output

    @staticmethod
    def backward(ctx, gradient: Tensor):
        raise NotImplementedError("nothing is computed on the meta device")


def _attention(query, key, value, attn_mask=None, dropout_p=0.0, is_causal=False, scale=None, enable_gqa=False) -> Tensor:
    return _Fused.apply(query, key, value)
