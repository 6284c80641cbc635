"""Memory plan of a run on GPU or CPU: required memory, the fastest savings that fit, and advice after running out of memory."""

import importlib.util
from dataclasses import asdict, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from studio.config import TrainConfig
from studio.config.runtime import RuntimeConfig
from studio.core import platform
from studio.core.errors import StudioError
from studio.devices.footprint import ON_GPU, PLACEMENTS, RAM_SHARE, Footprint, GenerationFootprint, Placement, Savings
from studio.devices.footprint_store import load_or_measure
from studio.devices.runtime import LARGE_BASE_PARAMETERS
from studio.families.base import Family
from studio.families.facts import BaseFolder

if TYPE_CHECKING:
    import torch

SLOWDOWN = {
    Savings(): 1.0,
    Savings(gradient_checkpointing=True): 1.4,
    Savings(quantisation="nf4"): 1.5,
    Savings(gradient_checkpointing=True, quantisation="nf4"): 2.0,
    Savings(gradient_checkpointing=True, offload=True): 2.5,
    Savings(gradient_checkpointing=True, quantisation="nf4", offload=True): 3.0,
}
"""Approximate slowdown of a step, as reported by other trainers. Only the order matters."""
SHARE = 0.92
"""Share of the free memory to plan with: the allocator fragments memory, and other programs need some too."""


def resolve(
    requested: RuntimeConfig, base_parameters: int, config: TrainConfig, base: BaseFolder, family: Family, footprints: Path
) -> tuple[RuntimeConfig, list[str]]:
    """Fill in open memory settings with the fastest combination that fits the free memory; returns the config and the reasons as text. On a CPU a
    small base is not measured: it fits wherever the program does. `footprints`: folder of those already counted."""
    savings, reasons = Savings(), []
    undecided = [name for name in asdict(savings) if getattr(requested, name) is None]
    if undecided and (requested.device == "cuda" or base_parameters > LARGE_BASE_PARAMETERS):
        assert requested.device is not None, "runtime.resolve chose the device."
        footprint = load_or_measure(footprints, config, family, base)
        savings, reason = select_savings(footprint, requested, config, free_bytes(requested.device), free_bytes("cpu"))
        reasons.append(reason)
    filled: dict[str, Any] = asdict(savings)
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


def select_savings(footprint: Footprint, requested: RuntimeConfig, config: TrainConfig, free: int, free_ram: int) -> tuple[Savings, str]:
    """The fastest savings that agree with the requested settings and fit into `free` bytes of the device and `free_ram` bytes of RAM; the smallest
    ones if none fit. Device and precision come from `requested`; if open, a GPU in 16 bits."""
    dtype = requested.dtype or "bfloat16"
    can_quantise = requested.device != "cpu" and importlib.util.find_spec("bitsandbytes") is not None
    options = []
    for savings, slowdown in SLOWDOWN.items():
        if savings.offload and requested.device == "cpu" and not requested.offload:
            continue
        if requested.quantisation not in (None, "none", "nf4"):
            savings = replace(savings, quantisation=requested.quantisation)
        agrees = all(getattr(requested, name) in (None, value) for name, value in asdict(savings).items())
        if agrees and (can_quantise or savings.quantisation == "none" or requested.quantisation):
            options.append((slowdown, footprint.plan(config, savings, dtype), savings))
    if not options:
        raise StudioError(
            "Offload saves no memory without gradient checkpointing, because saved activations keep the blocks on the GPU. "
            "Switch both on, or leave both empty."
        )
    fitting = [
        option
        for option in options
        if option[1].fits(free) and (not option[2].offload or RAM_SHARE * footprint.base_bytes(option[2], dtype) <= free_ram)
    ]
    if fitting:
        _, plan, chosen = min(fitting, key=lambda option: option[0])
    else:
        _, plan, chosen = min(options, key=lambda option: (option[1].needed(free), option[1].step))
    parts = [f"Free memory: {free / 1e9:.1f} GB. Chosen: {chosen.describe()}; this needs about {plan.needed(free) / 1e9:.1f} GB."]
    if not fitting:
        parts.append("It may still be too little: a smaller resolution, batch size or base needs less.")
    elif plan.sample > free:
        parts.append("Samples are decoded in tiles.")
    return chosen, " ".join(parts)


def graph_fits(config: TrainConfig, base: BaseFolder, family: Family, footprints: Path) -> bool:
    """Whether samples fit beside a step recorded as a CUDA graph, which keeps the memory of a step. `config` has all other settings filled in."""
    runtime = config.runtime
    recorded = config.model_copy(update={"runtime": runtime.model_copy(update={"execution": "graph"})})
    savings = Savings(bool(runtime.gradient_checkpointing), runtime.filled_quantisation, bool(runtime.offload))
    plan = load_or_measure(footprints, config, family, base).plan(recorded, savings, runtime.filled_dtype)
    return plan.fits(free_bytes(runtime.filled_device))


def place_generation(footprint: GenerationFootprint, dtype: str, free: int, free_ram: int) -> tuple[Placement, str]:
    """The first placement of a base that fits into `free` bytes of the GPU and `free_ram` bytes of RAM, or the smallest one; and a note, empty if
    everything is on the GPU."""
    can_quantise = importlib.util.find_spec("bitsandbytes") is not None
    options = [placement for placement in PLACEMENTS if can_quantise or placement.quantisation == "none"]
    fitting = [each for each in options if footprint.on_gpu(each, dtype) <= free and footprint.in_ram(each, dtype) <= free_ram]
    chosen = fitting[0] if fitting else min(options, key=lambda each: footprint.on_gpu(each, dtype))
    if chosen == ON_GPU:
        return chosen, ""
    note = f"This base needs {footprint.on_gpu(ON_GPU, dtype) / 1e9:.1f} GB and {free / 1e9:.1f} GB of GPU memory is free, so {chosen.describe()}."
    return chosen, note + ("" if fitting else " It may still be too little.")


def unused_bytes(device: "torch.device") -> int:
    """Memory in bytes that this process can still use: free memory of the device, and what the allocator keeps without using it."""
    import torch

    if device.type != "cuda":
        return int(platform.free_memory() * SHARE)
    kept = torch.cuda.memory_reserved(device) - torch.cuda.memory_allocated(device)
    return int((torch.cuda.mem_get_info(device)[0] + kept) * SHARE)


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
