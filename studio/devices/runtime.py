"""Runtime choices: device, precision, threads. Made once, stored with the run, reused by every resume."""

import os
import re
from typing import TYPE_CHECKING

from studio.config.runtime import RuntimeConfig
from studio.core import platform
from studio.core.errors import StudioError
from studio.families.loading import QUANTISATION_PACKAGES

if TYPE_CHECKING:
    import torch


def resolve(requested: RuntimeConfig, base_parameters: int = 0, float16: bool = True) -> RuntimeConfig:
    """Fill in open settings. With passively waiting threads (see `processes.environment`) all cores are used. Actively waiting threads spin, and one
    busy core then makes an image thirty times slower (on 2 cores 28 s instead of 0.9), so one core stays free.

    `float16`: whether the family stays within the range of float16.

    StudioError for a device that does not exist, and for settings that it cannot run.
    """
    import torch

    available = ["cuda", "cpu"] if torch.cuda.is_available() else ["cpu"]
    device = requested.device or available[0]
    if device not in available:
        raise StudioError(
            f"The device {device!r} is not on this computer, which has: {', '.join(available)}. Leave it empty for the best one; "
            "a run that began on another device cannot be resumed here: start a new one."
        )
    if problem := quantisation_problem(device, requested.quantisation):
        raise StudioError(problem)
    check_processes(requested)
    cores = torch.get_num_threads()
    passive = os.environ.get("OMP_WAIT_POLICY") == "PASSIVE"
    return RuntimeConfig(
        device=device,
        dtype=requested.dtype or precision(device, base_parameters, float16)[0],
        threads=requested.threads or (cores if passive else max(1, cores - 1)),
        exact=requested.exact,
        engine=requested.filled_engine,
        attention=requested.attention or "fused",
        **requested.model_dump(include={"gradient_checkpointing", "quantisation", "offload", "execution", "processes"}),
    )


def quantisation_problem(device: str | None, quantisation: str | None) -> str | None:
    """Why a base cannot be quantised that way on the device; None if it can."""
    on_cpu = ["none", *(name for name, package in QUANTISATION_PACKAGES.items() if package != "bitsandbytes")]
    if device != "cpu" or quantisation is None or quantisation in on_cpu:
        return None
    return (
        f"Quantisation {quantisation} needs a GPU, and this run uses the CPU (runtime.device is cpu). Set runtime.quantisation to one of: "
        f"{', '.join(on_cpu)}; or set runtime.device to cuda on a computer with a GPU."
    )


def check_processes(requested: RuntimeConfig) -> None:
    """StudioError for more processes than GPUs. On a CPU there may be any number."""
    import torch

    if requested.device == "cpu" or not torch.cuda.is_available():
        return
    gpus = max(1, torch.cuda.device_count())
    if requested.processes > gpus:
        raise StudioError(
            f"This run is set to {requested.processes} processes (runtime.processes), and this computer has {gpus} GPU{'s' * (gpus != 1)}: each "
            f"process needs one of its own. Set runtime.processes to {gpus} or less."
        )


def determinism_advice(error: Exception, device: str | None) -> tuple[str, list[dict]] | None:
    """Message after torch refused an operation in an exact run, and the change that allows it: {"title", "set"}. None for other errors."""
    found = NONDETERMINISTIC.search(str(error)) if isinstance(error, RuntimeError) else None
    if found is None:
        return None
    message = (
        f"The operation {found[1]} has no deterministic version on this device ({device}), and this run is exact (runtime.exact). Start again "
        "without it: then a run that was stopped and resumed can differ slightly from one that was not."
    )
    return message, [{"title": "without exact resume", "set": {"runtime.exact": False}}]


def torch_dtype(name: str) -> "torch.dtype":
    """The torch dtype for a precision in a config or a recipe."""
    import torch

    return {"float32": torch.float32, "bfloat16": torch.bfloat16, "float16": torch.float16}[name]


NONDETERMINISTIC = re.compile(r"(\S+) does not have a deterministic implementation")
"""torch's error under use_deterministic_algorithms."""
LARGE_BASE_PARAMETERS = 50_000_000
"""Parameters of a denoiser; below this a step is mostly overhead, and 16 bits would lose precision without being faster."""


NATIVE_BFLOAT16, FAST_FLOAT16 = (8, 0), (7, 0)
"""Compute capabilities from which a GPU has bfloat16 units (Ampere), and float16 at twice the speed of float32 (Volta)."""


def precision(device: str, base_parameters: int, float16: bool = True) -> tuple[str, str]:
    """(precision, reason if a GPU computes in another one than bfloat16): 16 bits if the device has units for them and the base is large enough.

    On a CPU with AVX512-BF16 a step of Stable Diffusion takes half as long in 16 bits; without such instructions it takes longer. torch emulates
    bfloat16 on GPUs without it. `float16`: whether the family stays within the range of float16.
    """
    import torch

    if device != "cuda":
        native = torch.cpu._is_avx512_bf16_supported() or torch.cpu._is_amx_tile_supported()
        return ("bfloat16" if native and base_parameters > LARGE_BASE_PARAMETERS else "float32"), ""
    capability = torch.cuda.get_device_capability()
    if capability >= NATIVE_BFLOAT16:
        return "bfloat16", ""
    lacks = f"{torch.cuda.get_device_name()} has no bfloat16 units"
    if capability < FAST_FLOAT16:
        return "float32", f"Precision: float32, because {lacks}, and float16 is slow on it."
    if not float16:
        return "float32", f"Precision: float32, because {lacks}, and this family exceeds the range of float16."
    return "float16", f"Precision: float16 with loss scaling, because {lacks}."


def describe(chosen: RuntimeConfig) -> str:
    """Name, memory, driver and CUDA version of the device, for a log."""
    import torch

    if chosen.device == "cuda":
        gpu = torch.cuda.get_device_properties(torch.cuda.current_device())
        driver = platform.nvidia_driver() or "unknown"
        return f"{gpu.name}, {gpu.total_memory / 1e9:.1f} GB, compute {gpu.major}.{gpu.minor}, driver {driver}, CUDA {torch.version.cuda}"
    free = platform.free_memory() / 1e9
    return f"{chosen.device} ({platform.processor()}), {free:.1f} GB of RAM free, {os.cpu_count()} cores, {chosen.threads} threads"


def peak_bytes(chosen: RuntimeConfig) -> int:
    """Peak memory of this process so far, on the GPU or in RAM."""
    import torch

    return torch.cuda.max_memory_allocated() if chosen.device == "cuda" else platform.peak_memory()


def apply(chosen: RuntimeConfig) -> None:
    """Apply the choices to this process. Must run before the first tensor operation: a thread pool cannot be resized cleanly later."""
    import torch

    assert chosen.threads is not None, "resolve() fills it in."
    torch.set_num_threads(chosen.threads)
    if chosen.exact and chosen.device == "cuda":
        os.environ["CUBLAS_WORKSPACE_CONFIG"] = ":4096:8"
    # Under use_deterministic_algorithms the backward passes of FlashAttention and memory-efficient attention add up in a fixed order. Without both
    # only the math kernel is left, whose memory grows with the square of the image. cuDNN's backward pass is not deterministic, and in torch 2.11 it
    # ended a step of FLUX.1 at 1024 pixels (H200) with an illegal memory access.
    torch.backends.cuda.enable_cudnn_sdp(False)
    torch.backends.cuda.enable_flash_sdp(chosen.attention != "math")
    torch.backends.cuda.enable_mem_efficient_sdp(chosen.attention != "math")
    torch.use_deterministic_algorithms(chosen.exact)
    # Otherwise a deterministic run fills every new tensor, which costs a kernel each. No result depends on uninitialised memory.
    torch.utils.deterministic.fill_uninitialized_memory = False  # type: ignore[attr-defined]
    if chosen.exact and chosen.execution != "eager":
        import torch._inductor.config as inductor

        # torch 2.13 sets it too. Otherwise the fastest of several kernels is chosen by timing them, anew in each process.
        if hasattr(inductor, "deterministic"):
            inductor.deterministic = True
