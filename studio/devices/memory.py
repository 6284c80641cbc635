"""Memory plan of a run on GPU or CPU: required memory, the fastest savings that fit, and advice after running out of memory."""

import importlib.util
from typing import Any

from studio.config import TrainConfig
from studio.config.runtime import RuntimeConfig
from studio.config.training import TrainingConfig
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
"""(checkpointing, quantisation, offload) -> approximate slowdown of a step, as reported by other trainers. Only the order matters."""
SHARE = 0.92
"""Share of the free memory to plan with: the allocator fragments memory, and other programs need some too."""


def resolve(requested: RuntimeConfig, base_parameters: int, config: TrainConfig, base: BaseFolder, family: Family) -> tuple[RuntimeConfig, list[str]]:
    """Fill in open memory settings with the fastest combination that fits the free memory; returns the config and the reasons as text. On a CPU a
    small base is not measured: it fits wherever the program does."""
    filled: dict[str, Any] = {"gradient_checkpointing": False, "quantisation": "none", "offload": False}
    reasons = []
    undecided = [name for name, value in requested.model_dump(include=set(filled)).items() if value is None]
    if undecided and (requested.device == "cuda" or base_parameters > LARGE_BASE_PARAMETERS):
        from studio.devices.measure import measure

        footprint = measure(config, family, base)
        assert footprint is not None and requested.device is not None, "A base with a folder can be measured, and runtime.resolve chose the device."
        filled, reason = select_savings(footprint, requested, config.training, free_bytes(requested.device))
        reasons.append(reason)
    if requested.device == "cpu" and requested.execution is None:
        # On a CPU compilation took three minutes and gained nothing; on a GPU the modes are timed once the denoiser is loaded.
        filled["execution"] = "eager"
    return RuntimeConfig.model_validate(filled | requested.model_dump(exclude_none=True)), reasons


def free_bytes(device: str) -> int:
    """Memory in bytes that can be planned with now."""
    if device == "cpu":
        return int(platform.free_memory() * SHARE)
    import torch

    return int(torch.cuda.mem_get_info()[0] * SHARE)


def select_savings(footprint: Footprint, requested: RuntimeConfig, training: TrainingConfig, free: int) -> tuple[dict, str]:
    """The fastest combination that agrees with the requested settings and fits into `free` bytes; the smallest one if none fits. Device and
    precision come from `requested`; if open, a GPU in 16 bits."""
    can_quantise = requested.device != "cpu" and importlib.util.find_spec("bitsandbytes") is not None
    options = []
    for (checkpointing, quantisation, offload), slowdown in SLOWDOWN.items():
        if offload and requested.device == "cpu" and not requested.offload:
            continue
        agrees = requested.gradient_checkpointing in (None, checkpointing) and requested.offload in (None, offload)
        if requested.quantisation not in (None, "none", "nf4"):
            quantisation = requested.quantisation
        if agrees and requested.quantisation in (None, quantisation) and (can_quantise or quantisation == "none" or requested.quantisation):
            needed = footprint.memory(training, checkpointing, quantisation, offload, requested.dtype or "bfloat16")
            options.append((slowdown, needed, {"gradient_checkpointing": checkpointing, "quantisation": quantisation, "offload": offload}))
    if not options:
        raise StudioError(
            "Offload saves no memory without gradient checkpointing, because saved activations keep the blocks on the GPU. "
            "Switch both on, or leave both empty."
        )
    fitting = [option for option in options if option[1] <= free]
    _, needed, chosen = min(fitting, key=lambda option: option[0]) if fitting else min(options, key=lambda option: option[1])
    savings = [
        *(["gradient checkpointing"] if chosen["gradient_checkpointing"] else []),
        *([f"base quantised to {chosen['quantisation']}"] if chosen["quantisation"] != "none" else []),
        *(["blocks offloaded to RAM"] if chosen["offload"] else []),
    ]
    used = ", ".join(savings) if savings else "no memory savings"
    warning = "" if fitting else " It may still be too little: a smaller resolution, batch size or base needs less."
    return chosen, f"Free memory: {free / 1e9:.1f} GB. Chosen: {used}; this needs about {needed / 1e9:.1f} GB.{warning}"


def out_of_memory_advice(config: TrainConfig) -> tuple[str, list[dict]]:
    """Message after running out of memory, and the cheapest changes that help, cheapest first: {"title", "set"} each."""
    changes: list[dict[str, Any]] = []
    if config.training.train_batch_size > 1:
        half = config.training.train_batch_size // 2
        twice = config.training.gradient_accumulation_steps * config.training.train_batch_size // half
        changed = {"training.train_batch_size": half, "training.gradient_accumulation_steps": twice}
        changes.append({"title": f"batch size {half}", "set": changed})
    if not config.runtime.gradient_checkpointing:
        changes.append({"title": "gradient checkpointing (slower, far less memory)", "set": {"runtime.gradient_checkpointing": True}})
    if config.dataset.resolution > 256:
        smaller = config.dataset.resolution * 3 // 4 // 64 * 64
        changes.append({"title": f"resolution {smaller}", "set": {"dataset.resolution": smaller}})
    if config.runtime.device == "cuda" and config.runtime.quantisation in (None, "none"):
        changes.append({"title": "the base quantised to 4 bits (nf4)", "set": {"runtime.quantisation": "nf4"}})
    if config.lora.rank > 4:
        rank, alpha = config.lora.rank // 2, config.lora.filled_alpha / 2
        changes.append({"title": f"rank {rank}", "set": {"lora.rank": rank, "lora.alpha": alpha}})
    named = ", or ".join(change["title"] for change in changes[:3]) or "a smaller base"
    return f"The memory is not enough for this run. Close other programs, or start again with: {named}.", changes[:3]
