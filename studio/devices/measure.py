"""Measurement of the memory footprint from the settings: a step, a sample and the autoencoder on torch's meta device.

Parameters are counted, and the peak of the other tensors (see `counting`). Nothing is downloaded or computed.
"""

import math
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from studio.adapters.header import read_header
from studio.adapters.layers import inject, peft_config
from studio.config import TrainConfig
from studio.datasets.buckets import family_buckets
from studio.devices.counting import PeakCounter, fused_kernels
from studio.devices.footprint import Footprint, GenerationFootprint
from studio.families.base import Family
from studio.families.facts import BaseFolder
from studio.families.loading import denoiser_class

if TYPE_CHECKING:
    from diffusers import ModelMixin


TILE_SIDE = 512
"""Side in pixels of the tiles that the autoencoders of diffusers decode large images in."""


def measure(config: TrainConfig, family: Family, base: BaseFolder | None) -> Footprint | None:
    """Footprint for these settings; None for a base that is neither on this computer nor known to the studio."""
    denoiser = meta_denoiser(family, config.model.base_model, base)
    if denoiser is None:
        return None
    base_parameters = sum(weight.numel() for weight in denoiser.parameters())
    resident_parameters = count_resident_parameters(family, denoiser)
    adapter_parameters = sum(weight.numel() for weight in inject_lora(denoiser, config, family)) + text_encoder_parameters(config, family, base)
    known = family.offer(config.model.base_model)
    native = family.resolution(base) if base else known.resolution if known else family.fixed_resolution
    side, sample_side = config.dataset.resolution, config.samples.resolution or native
    sample_bytes = forward_bytes(family, denoiser, (sample_side, sample_side))
    fused = config.runtime.attention != "math"
    bucket = largest_bucket(family, config, base)
    step_bytes, attention_bytes, heads = peak_step_bytes(family, denoiser, bucket, fused)
    family.enable_gradient_checkpointing(denoiser)
    checkpointed_bytes, _, _ = peak_step_bytes(family, denoiser, bucket, fused)
    autoencoder = meta_autoencoder(family, base)
    return Footprint(
        base_parameters=base_parameters,
        adapter_parameters=adapter_parameters,
        resident_parameters=resident_parameters,
        encoder_parameters=count_encoder_parameters(family, config.model.base_model, base),
        step_bytes=step_bytes,
        checkpointed_step_bytes=checkpointed_bytes,
        attention_bytes=attention_bytes,
        attention_heads=heads,
        sample_bytes=sample_bytes * (2 if uses_guidance(family, config, base) else 1),
        encode_bytes=autoencoder_bytes(family, autoencoder, side)[0],
        decode_bytes=autoencoder_bytes(family, autoencoder, sample_side)[1],
        tile_bytes=tile_bytes(family, autoencoder, sample_side),
    )


def measure_generation(family: Family, base: BaseFolder, size: tuple[int, int], guidance: bool) -> GenerationFootprint:
    """Footprint of generating an image of (height, width)."""
    denoiser = meta_denoiser_of(family, base)
    parameters = sum(weight.numel() for weight in denoiser.parameters())
    return GenerationFootprint(
        base_parameters=parameters,
        resident_parameters=count_resident_parameters(family, denoiser),
        encoder_parameters=count_encoder_parameters(family, base.id, base),
        sample_bytes=forward_bytes(family, denoiser, size) * (2 if guidance else 1),
        tile_bytes=tile_bytes(family, meta_autoencoder(family, base), max(size)),
    )


def count_resident_parameters(family: Family, denoiser: "ModelMixin") -> int:
    """Parameters on the GPU while blocks are offloaded: those outside blocks, the current block and the next one. For a denoiser without a LoRA."""
    blocks = [sum(weight.numel() for weight in block.parameters()) for block in family.blocks(denoiser)]
    return sum(weight.numel() for weight in denoiser.parameters()) - sum(blocks) + 2 * max(blocks)


def largest_bucket(family: Family, config: TrainConfig, base: BaseFolder | None) -> tuple[int, int]:
    """(height, width) of the bucket with the largest area, which is a little more than that of the square."""
    side = config.dataset.resolution
    if base is None:
        return side, side
    table = family_buckets(family, base, side, config.runtime.filled_engine)
    return max(table.sizes, key=lambda size: size[0] * size[1])


def count_adapter_parameters(config: TrainConfig, family: Family, base: BaseFolder | None) -> int:
    """Number of trainable parameters; 0 for a base that is neither on this computer nor known to the studio."""
    denoiser = meta_denoiser(family, config.model.base_model, base)
    if denoiser is None:
        return 0
    return sum(weight.numel() for weight in inject_lora(denoiser, config, family)) + text_encoder_parameters(config, family, base)


def uses_guidance(family: Family, config: TrainConfig, base: BaseFolder | None) -> bool:
    """Whether samples compute the denoiser for two prompts at once: the sample prompt and the empty one."""
    if config.samples.guidance_scale <= 1:
        return False
    if base is not None:
        return family.uses_negative_prompt(base.component_config("", "model_index.json"), base.component_config(family.denoiser_name))
    known = family.offer(config.model.base_model)
    return family.uses_negative_prompt({}, (known.denoiser if known else None) or {})


def count_encoder_parameters(family: Family, base_model: str, base: BaseFolder | None) -> int:
    """Number of parameters of the text encoders, from the headers of their files or as listed."""
    if base is not None and not set(family.text_encoder_names) & set(family.checkpoint_parts if base.checkpoint else ()):
        files = [file for part in family.text_encoder_names for file in (base.path / part).glob("*.safetensors")]
        return sum(math.prod(shape) for file in files for _, shape in read_header(file).tensors.values())
    known = family.offer(base.reference if base and base.reference else base_model)
    return int(known.encoder_billions * 1e9) if known else 0


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
    _cast(denoiser, torch.bfloat16)
    return denoiser


def _cast(module: nn.Module, dtype: torch.dtype) -> None:
    """Cast all weights. The method `to` of diffusers' models warns, although nothing is computed with them here."""
    for weight in module.parameters():
        weight.data = weight.data.to(dtype)


def inject_lora(denoiser: "ModelMixin", config: TrainConfig, family: Family) -> list[nn.Parameter]:
    """Add the LoRA of these settings to a denoiser, on its device; returns the trainable parameters."""
    denoiser.requires_grad_(False)
    lora = config.lora
    # PEFT creates and initializes its weights on the CPU otherwise.
    with denoiser.device:
        inject(denoiser, peft_config(lora.method, lora.rank, lora.filled_alpha, lora.dropout, lora.target_modules or list(family.target_modules)))
    trainable = [weight for weight in denoiser.parameters() if weight.requires_grad]
    _cast(denoiser, torch.bfloat16)
    denoiser.train()
    return trainable


def forward_once(family: Family, denoiser: "ModelMixin", size: tuple[int, int]) -> Tensor:
    """One forward pass of one image of (height, width), whose inputs have no particular values, on the device of the denoiser."""
    device = denoiser.device
    shapes = family.input_shapes(denoiser.config, size)
    dtypes = {name: torch.bool if name.endswith("_mask") else torch.bfloat16 for name in shapes}
    inputs = {name: torch.zeros((1, *shape), device=device, dtype=dtypes[name]) for name, shape in shapes.items()}
    return family.predict(denoiser, inputs.pop("latents"), torch.zeros(1, device=device), inputs)


def peak_step_bytes(family: Family, denoiser: "ModelMixin", size: tuple[int, int], fused: bool = True) -> tuple[int, int, int]:
    """(peak bytes of forward and backward for one image, without weights; bytes and heads of the largest attention)."""
    weights = list(denoiser.parameters())
    with fused_kernels(attention=fused) as largest, PeakCounter(weights) as counter:
        forward_once(family, denoiser, size).float().square().mean().backward()
    for weight in weights:
        weight.grad = None
    return counter.peak, largest.bytes, largest.heads


@torch.no_grad()
def forward_bytes(family: Family, denoiser: "ModelMixin", size: tuple[int, int]) -> int:
    """Peak bytes of a forward pass for one image without gradients, without weights."""
    with fused_kernels(), PeakCounter(denoiser.parameters()) as counter:
        forward_once(family, denoiser, size)
    return counter.peak


def meta_autoencoder(family: Family, base: BaseFolder | None) -> "ModelMixin":
    """The autoencoder on the meta device, in float32: of a base's folder, otherwise that of the family."""
    import diffusers

    stated: dict[str, Any] = dict(family.autoencoder.config) if base is None else base.component_config("vae")
    with torch.device("meta"):
        autoencoder = getattr(diffusers, family.autoencoder.class_name).from_config(
            {key: value for key, value in stated.items() if not key.startswith("_")}
        )
    return autoencoder.requires_grad_(False)


@torch.no_grad()
def autoencoder_bytes(family: Family, autoencoder: "ModelMixin", side: int) -> tuple[int, int]:
    """(peak bytes of encoding an image of this side in float32, of decoding one in 16 bits), weights included."""
    frames = (1,) if family.autoencoder.video else ()
    peaks: list[int] = []
    tensor = torch.empty(1, 3, *frames, side, side, device="meta")
    for dtype in (torch.float32, torch.bfloat16):
        _cast(autoencoder, dtype)
        with fused_kernels(), PeakCounter([*autoencoder.parameters(), tensor]) as counter:
            tensor = autoencoder.encode(tensor).latent_dist.mean if not peaks else autoencoder.decode(tensor.to(dtype)).sample
        peaks.append(counter.peak + sum(weight.nbytes for weight in autoencoder.parameters()))
    return peaks[0], peaks[1]


def tile_bytes(family: Family, autoencoder: "ModelMixin", side: int) -> int:
    """Peak bytes of decoding an image of this side in 16 bits in tiles, weights included: a tile, and the rows of tiles already decoded."""
    return autoencoder_bytes(family, autoencoder, min(side, TILE_SIDE))[1] + 3 * 4 * side**2


def decoding_bytes(family: Family, base: BaseFolder, side: int, dtype: torch.dtype) -> int:
    """Peak bytes of decoding an image of this side as a whole."""
    return autoencoder_bytes(family, meta_autoencoder(family, base), side)[1] * dtype.itemsize // 2


def encoding_bytes(family: Family, base: BaseFolder, size: tuple[int, int]) -> int:
    """Peak bytes of encoding an image of (height, width) in float32."""
    side = -(-math.isqrt(size[0] * size[1]) // 64) * 64
    return autoencoder_bytes(family, meta_autoencoder(family, base), side)[0]
