"""The choices a machine forces on a computation: device, precision, threads. Made once, stored with a run, applied the same way ever after."""

import os
import sys

from studio.config.runtime import RuntimeConfig


def choose(asked: RuntimeConfig) -> RuntimeConfig:
    """Fill in what was left open. One core stays free: torch's threads wait for each other by spinning, and a single busy neighbour
    on the last core made a picture thirty times slower (measured on 2 cores: 0.9 s with one thread, 28 s with two)."""
    import torch

    device = asked.device or ("cuda" if torch.cuda.is_available() else "cpu")
    cores = len(os.sched_getaffinity(0)) if sys.platform == "linux" else os.cpu_count() or 1
    return RuntimeConfig(
        device=device,
        dtype=asked.dtype or ("bfloat16" if device == "cuda" else "float32"),
        threads=asked.threads or max(1, cores - 1),
        exact=asked.exact,
    )


def apply(chosen: RuntimeConfig) -> None:
    """Make this process compute as chosen. Must run before the first tensor operation: threads of a pool cannot be taken back cleanly."""
    import torch

    torch.set_num_threads(chosen.threads)
    if chosen.device == "cuda" and chosen.exact:
        os.environ["CUBLAS_WORKSPACE_CONFIG"] = ":4096:8"
        torch.backends.cuda.enable_flash_sdp(False)
        torch.backends.cuda.enable_mem_efficient_sdp(False)
    torch.use_deterministic_algorithms(chosen.exact)
