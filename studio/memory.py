"""What a run needs of a card's memory, which savings it takes to fit, and what to change when it did not fit after all."""

from typing import TYPE_CHECKING

from studio.config import TrainConfig
from studio.config.runtime import RuntimeConfig
from studio.families.base import BaseFolder, Family

if TYPE_CHECKING:
    import torch


def choose(asked: RuntimeConfig, config: TrainConfig, base: BaseFolder, family: Family) -> tuple[RuntimeConfig, list[str]]:
    """Fill in what was left open about memory; what was chosen and why, in sentences."""
    filled = RuntimeConfig(gradient_checkpointing=False, quantisation="none", offload=False, execution="eager").model_dump(exclude_none=True)
    return RuntimeConfig.model_validate(filled | asked.model_dump(exclude_none=True)), []


def place(denoiser: "torch.nn.Module", runtime: RuntimeConfig, device: "torch.device") -> "torch.nn.Module":
    """The denoiser where it computes: on the device, or in main memory with its blocks brought over one by one."""
    if runtime.offload:
        denoiser.enable_group_offload(onload_device=device, offload_type="block_level", num_blocks_per_group=1, use_stream=device.type == "cuda")
        return denoiser
    return denoiser if runtime.quantisation in ("nf4", "int8") else denoiser.to(device)


def too_small(config: TrainConfig) -> tuple[str, list[dict]]:
    """What to say when memory ran out, and the changes that cost least, cheapest first: {"title", "set"} each."""
    offers = []
    if config.training.train_batch_size > 1:
        half = config.training.train_batch_size // 2
        twice = config.training.gradient_accumulation_steps * config.training.train_batch_size // half
        changed = {"training.train_batch_size": half, "training.gradient_accumulation_steps": twice}
        offers.append({"title": f"pictures at a time {half}", "set": changed})
    if not config.runtime.gradient_checkpointing:
        offers.append({"title": "gradient checkpointing (slower, far less memory)", "set": {"runtime.gradient_checkpointing": True}})
    if config.dataset.resolution > 256:
        smaller = config.dataset.resolution * 3 // 4 // 64 * 64
        offers.append({"title": f"picture size {smaller}", "set": {"dataset.resolution": smaller}})
    if config.runtime.device == "cuda" and config.runtime.quantisation in (None, "none"):
        offers.append({"title": "the base packed in 4 bits (nf4)", "set": {"runtime.quantisation": "nf4"}})
    if config.lora.rank > 4:
        offers.append({"title": f"rank {config.lora.rank // 2}", "set": {"lora.rank": config.lora.rank // 2, "lora.alpha": config.lora.alpha / 2}})
    named = ", or ".join(offer["title"] for offer in offers[:3]) or "a smaller base"
    return f"The memory is not enough for this run. Close other programs, or start again with: {named}.", offers[:3]
