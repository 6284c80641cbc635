"""The choices a machine forces on a computation: device, precision, threads. Made once, stored with a run, applied the same way ever after."""

import os
from typing import TYPE_CHECKING

from studio.config.runtime import RuntimeConfig
from studio.core import platform
from studio.core.errors import StudioError

if TYPE_CHECKING:
    import torch


def resolve(asked: RuntimeConfig, base_parameters: int = 0) -> RuntimeConfig:
    """Fill in what was left open. With patient threads (see `processes.environment`) every core computes. Impatient ones spin while they
    wait for each other, and one busy neighbour then makes a picture thirty times slower (on 2 cores 28 s instead of 0.9), so one core stays free.

    StudioError for a device that is not here.
    """
    import torch

    there = ["cuda", "cpu"] if torch.cuda.is_available() else ["cpu"]
    device = asked.device or there[0]
    if device not in there:
        raise StudioError(
            f"The device {device!r} is not on this computer, which has: {', '.join(there)}. Leave it empty to take the best one; "
            "a run that began on another device has to be started anew here."
        )
    cores = torch.get_num_threads()
    patient = os.environ.get("OMP_WAIT_POLICY") == "PASSIVE"
    return RuntimeConfig(
        device=device,
        dtype=asked.dtype or precision(device, base_parameters),
        threads=asked.threads or (cores if patient else max(1, cores - 1)),
        exact=asked.exact,
        attention=asked.attention or "fused",
        **asked.model_dump(include={"gradient_checkpointing", "quantisation", "offload", "execution", "processes"}),
    )


def torch_dtype(name: str) -> "torch.dtype":
    """A precision that a config or a recipe names, as torch has it."""
    import torch

    return {"float32": torch.float32, "bfloat16": torch.bfloat16, "float16": torch.float16}[name]


LARGE_BASE_PARAMETERS = 50_000_000
"""Of a denoiser: below that a step is mostly overhead, and 16 bits would round without being any quicker."""


def precision(device: str, base_parameters: int) -> str:
    """float32 or bfloat16: 16 bits where the device multiplies them natively and the base is large enough for it to matter.

    On a processor with AVX512-BF16 a step of Stable Diffusion takes half as long in 16 bits; without such instructions it takes longer.
    """
    import torch

    native = device == "cuda" or torch.cpu._is_avx512_bf16_supported() or torch.cpu._is_amx_tile_supported()
    return "bfloat16" if native and (device == "cuda" or base_parameters > LARGE_BASE_PARAMETERS) else "float32"


def peak_bytes(chosen: RuntimeConfig) -> int:
    """The most memory this process has had so far: of the card, or of the computer."""
    import torch

    return torch.cuda.max_memory_allocated() if chosen.device == "cuda" else platform.peak_memory()


def apply(chosen: RuntimeConfig) -> None:
    """Make this process compute as chosen. Must run before the first tensor operation: threads of a pool cannot be taken back cleanly."""
    import torch

    torch.set_num_threads(chosen.threads)
    if chosen.exact and chosen.device == "cuda":
        os.environ["CUBLAS_WORKSPACE_CONFIG"] = ":4096:8"
    # Under use_deterministic_algorithms the backward passes of FlashAttention and memory-efficient attention add up in a fixed order;
    # cuDNN's does not. Without both only the math kernel is left, whose memory grows with the square of the image.
    torch.backends.cuda.enable_cudnn_sdp(not chosen.exact)
    torch.backends.cuda.enable_flash_sdp(chosen.attention != "math")
    torch.backends.cuda.enable_mem_efficient_sdp(chosen.attention != "math")
    torch.use_deterministic_algorithms(chosen.exact)
