"""The choices a machine forces on a computation: device, precision, threads. Made once, stored with a run, applied the same way ever after."""

import os

from studio.config.runtime import RuntimeConfig
from studio.errors import StudioError


def choose(asked: RuntimeConfig) -> RuntimeConfig:
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
        dtype=asked.dtype or ("bfloat16" if device == "cuda" else "float32"),
        threads=asked.threads or (cores if patient else max(1, cores - 1)),
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
