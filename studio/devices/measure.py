"""What a training takes, from the settings alone: the denoiser is built without memory (torch's meta device), given its LoRA, and asked once.

Numbers that learn are counted; activations are every tensor that autograd would keep for the way back. Nothing is fetched or computed.
"""

import torch
from torch import Tensor, nn

from studio.adapters.layers import inject, peft_config
from studio.config import TrainConfig
from studio.devices.footprint import Footprint
from studio.families.base import Family
from studio.families.facts import BaseFolder
from studio.families.loading import denoiser_class


def measure(config: TrainConfig, family: Family, base: BaseFolder | None) -> Footprint | None:
    """Of these settings; None for a base that is neither here nor one that the studio knows."""
    denoiser = blank_denoiser(family, config.model.base_model, base)
    if denoiser is None:
        return None
    base_numbers = sum(weight.numel() for weight in denoiser.parameters())
    learning = teach(denoiser, config, family)
    numbers = sum(weight.numel() for weight in learning) + encoder_numbers(config, family, base)
    side = config.dataset.resolution
    activations = kept_bytes(family, denoiser, (side, side))
    family.enable_gradient_checkpointing(denoiser)
    checkpointed = kept_bytes(family, denoiser, (side, side))
    sizes = [sum(weight.numel() for weight in block.parameters() if not weight.requires_grad) for block in family.blocks(denoiser)]
    return Footprint(base_numbers, numbers, activations, checkpointed, len(sizes), base_numbers - sum(sizes) + 2 * max(sizes))


def encoder_numbers(config: TrainConfig, family: Family, base: BaseFolder | None) -> int:
    """How many numbers learn in text encoders: their attention is square, and every layer has the same."""
    if not config.lora.text_encoder:
        return 0
    if base is not None:
        read = [base.component_config(part) for part in family.text_encoder_targets]
        sizes = [(part["num_hidden_layers"], part["hidden_size"]) for part in read]
    else:
        known = family.offer(config.model.base_model)
        sizes = known.trainable_encoders if known else ()
    matrices = sum(layers * width * len(targets) for (layers, width), targets in zip(sizes, family.text_encoder_targets.values()))
    return matrices * (2 * config.lora.rank + (config.lora.method == "dora"))


def base_numbers(family: Family, base: BaseFolder) -> int:
    """How many numbers a base's denoiser has."""
    return sum(weight.numel() for weight in blank_denoiser(family, "", base).parameters())


def blank_denoiser(family: Family, base_model: str, base: BaseFolder | None) -> nn.Module | None:
    """The denoiser with shapes and no numbers, in 16 bits."""
    known = family.offer(base_model)
    with torch.device("meta"):
        if base is not None:
            config = {key: value for key, value in base.component_config(family.denoiser_name).items() if not key.startswith("_")}
            denoiser = denoiser_class(family).from_config(config)
        elif known and known.denoiser is not None:
            denoiser = denoiser_class(family)(**known.denoiser)
        else:
            return None
    for weight in denoiser.parameters():
        weight.data = weight.data.to(torch.bfloat16)
    return denoiser


def teach(denoiser: nn.Module, config: TrainConfig, family: Family) -> list[nn.Parameter]:
    """Give a blank denoiser the LoRA of these settings; what learns."""
    denoiser.requires_grad_(False)
    lora = config.lora
    inject(denoiser, peft_config(lora.method, lora.rank, lora.alpha, lora.dropout, lora.target_modules or list(family.target_modules)))
    learning = [weight for weight in denoiser.parameters() if weight.requires_grad]
    for weight in learning:
        weight.data = weight.data.to(torch.bfloat16)
    denoiser.train()
    return learning


def ask(family: Family, denoiser: nn.Module, size: tuple[int, int]) -> Tensor:
    """One forward of one blank picture of (height, width)."""
    shapes = family.input_shapes(denoiser.config, size)
    dtypes = {name: torch.bool if name.endswith("_mask") else torch.bfloat16 for name in shapes}
    inputs = {name: torch.empty((1, *shape), device="meta", dtype=dtypes[name]) for name, shape in shapes.items()}
    return family.predict(denoiser, inputs.pop("latents"), torch.empty(1, device="meta"), inputs)


def kept_bytes(family: Family, denoiser: nn.Module, size: tuple[int, int]) -> int:
    """What autograd keeps of one forward of one picture, each storage once, the weights themselves left out."""
    own = {weight.untyped_storage()._cdata for weight in denoiser.parameters()}
    kept: dict[int, torch.UntypedStorage] = {}

    def keep(tensor: Tensor) -> Tensor:
        storage = tensor.untyped_storage()
        if storage._cdata not in own:
            kept[storage._cdata] = storage
        return tensor

    attention = nn.functional.scaled_dot_product_attention
    nn.functional.scaled_dot_product_attention = _attention
    try:
        with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
            ask(family, denoiser, size)
    finally:
        nn.functional.scaled_dot_product_attention = attention
    return sum(storage.nbytes() for storage in kept.values())


class _Fused(torch.autograd.Function):
    """Attention that keeps its inputs, its output and one number a row (Dao et al. 2022); on the meta device torch would keep the whole matrix."""

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
