"""What a run needs of memory, a card's or the computer's, which savings it takes to fit, and what to change when it did not fit after all."""

import importlib.util

from studio.config import TrainConfig
from studio.config.runtime import RuntimeConfig
from studio.core import platform
from studio.core.errors import StudioError
from studio.devices.footprint import Footprint
from studio.devices.runtime import LARGE_BASE_PARAMETERS
from studio.families.base import Family
from studio.families.facts import BaseFolder

SLOWDOWN = {
    (False, "none", False): 1.0,
    (True, "none", False): 1.4,
    (False, "nf4", False): 1.5,
    (True, "nf4", False): 2.0,
    (True, "none", True): 2.5,
    (True, "nf4", True): 3.0,
}
"""(checkpointing, quantisation, offload) -> how much longer a step takes than without any, roughly, as trainers report it. Only the order counts."""
SHARE = 0.92
"""Of the free memory that may be planned for: the allocator leaves gaps, and other programs want some too."""


def resolve(asked: RuntimeConfig, base_parameters: int, config: TrainConfig, base: BaseFolder, family: Family) -> tuple[RuntimeConfig, list[str]]:
    """Fill in what was left open about memory, the fastest way that fits what is free; what was chosen and why, in sentences. On a processor
    a small base is not worth the counting: it fits wherever the program does."""
    filled = {"gradient_checkpointing": False, "quantisation": "none", "offload": False}
    reasons = []
    left_open = [name for name, value in asked.model_dump(include=filled.keys()).items() if value is None]
    if left_open and (asked.device == "cuda" or base_parameters > LARGE_BASE_PARAMETERS):
        from studio.devices.measure import measure

        filled, sentence = select_savings(measure(config, family, base), asked, config.training.train_batch_size, free_bytes(asked.device))
        reasons.append(sentence)
    if asked.device == "cpu" and asked.execution is None:
        # On a processor compiling took three minutes and gained nothing; a card's ways are timed once the denoiser is there.
        filled["execution"] = "eager"
    return RuntimeConfig.model_validate(filled | asked.model_dump(exclude_none=True)), reasons


def free_bytes(device: str) -> int:
    """What may be planned for now."""
    if device == "cpu":
        return int(platform.free_memory() * SHARE)
    import torch

    return int(torch.cuda.mem_get_info()[0] * SHARE)


def select_savings(footprint: Footprint, asked: RuntimeConfig, batch: int, free: int) -> tuple[dict, str]:
    """The fastest of the ways that agree with what was asked and fit into `free` bytes; the smallest one when none fits. `asked` says the
    device and precision; open, it is a card in 16 bits."""
    can_pack = asked.device != "cpu" and importlib.util.find_spec("bitsandbytes") is not None
    ways = []
    for (checkpointing, quantisation, offload), slower in SLOWDOWN.items():
        if offload and asked.device == "cpu" and not asked.offload:
            continue
        agrees = asked.gradient_checkpointing in (None, checkpointing) and asked.offload in (None, offload)
        if asked.quantisation not in (None, "none", "nf4"):
            quantisation = asked.quantisation
        if agrees and asked.quantisation in (None, quantisation) and (can_pack or quantisation == "none" or asked.quantisation):
            needed = footprint.memory(batch, checkpointing, quantisation, offload, asked.dtype or "bfloat16")
            ways.append((slower, needed, {"gradient_checkpointing": checkpointing, "quantisation": quantisation, "offload": offload}))
    if not ways:
        raise StudioError(
            "Keeping blocks in main memory (offload) saves nothing unless they are computed twice (gradient checkpointing): "
            "their activations would hold them on the card. Switch both on, or leave both open."
        )
    that_fit = [way for way in ways if way[1] <= free]
    slower, needed, chosen = min(that_fit, key=lambda way: way[0]) if that_fit else min(ways, key=lambda way: way[1])
    words = [
        *(["blocks are computed twice (gradient checkpointing)"] if chosen["gradient_checkpointing"] else []),
        *([f"the base is packed ({chosen['quantisation']})"] if chosen["quantisation"] != "none" else []),
        *(["blocks wait in main memory (offload)"] if chosen["offload"] else []),
    ]
    how = f"{', '.join(words)}; needed are" if words else "nothing has to be saved; needed are"
    fits = "" if that_fit else " It may still be too little: a smaller picture size, batch or base needs less."
    return chosen, f"For {free / 1e9:.1f} GB of free memory: {how} about {needed / 1e9:.1f} GB.{fits}"


def out_of_memory_advice(config: TrainConfig) -> tuple[str, list[dict]]:
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
