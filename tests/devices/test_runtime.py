"""What a machine decides is decided once, and only what it has."""

import pytest
import torch

from studio.config.runtime import ENGINE, RuntimeConfig
from studio.core.errors import StudioError
from studio.devices import runtime


@pytest.mark.parametrize(("there", "device", "dtype"), [(False, "cpu", "float32"), (True, "cuda", "bfloat16")])
def test_what_was_left_open_is_filled_in(monkeypatch, there, device, dtype):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: there)
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda: (9, 0))
    chosen = runtime.resolve(RuntimeConfig())
    assert (chosen.device, chosen.dtype) == (device, dtype) and chosen.threads >= 1
    assert runtime.resolve(chosen) == chosen


@pytest.mark.parametrize("device", ["cuda", "cuda:1", "mps", "abacus"])
def test_a_device_that_is_not_there_is_refused_with_those_that_are(monkeypatch, device):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    with pytest.raises(StudioError, match=f"{device!r} is not on this computer, which has: cpu"):
        runtime.resolve(RuntimeConfig(device=device))


@pytest.fixture
def kernels():
    """What torch may compute attention with, put back afterwards."""
    cuda = torch.backends.cuda
    before = cuda.flash_sdp_enabled(), cuda.mem_efficient_sdp_enabled(), cuda.cudnn_sdp_enabled(), torch.get_num_threads()
    yield lambda: {"flash": cuda.flash_sdp_enabled(), "mem_efficient": cuda.mem_efficient_sdp_enabled(), "cudnn": cuda.cudnn_sdp_enabled()}
    cuda.enable_flash_sdp(before[0]), cuda.enable_mem_efficient_sdp(before[1]), cuda.enable_cudnn_sdp(before[2])
    torch.set_num_threads(before[3])
    torch.use_deterministic_algorithms(False)
    torch.utils.deterministic.fill_uninitialized_memory = True


@pytest.mark.parametrize(
    ("exact", "attention", "allowed"),
    [
        (True, "fused", {"flash": True, "mem_efficient": True, "cudnn": False}),
        (False, "fused", {"flash": True, "mem_efficient": True, "cudnn": False}),
        (True, "math", {"flash": False, "mem_efficient": False, "cudnn": False}),
    ],
)
def test_only_cudnn_attention_is_switched_off(monkeypatch, kernels, exact, attention, allowed):
    monkeypatch.setenv("CUBLAS_WORKSPACE_CONFIG", "")
    runtime.apply(RuntimeConfig(device="cuda", dtype="bfloat16", threads=torch.get_num_threads(), exact=exact, attention=attention))
    assert kernels() == allowed
    assert torch.are_deterministic_algorithms_enabled() is exact


def test_a_run_starts_with_the_newest_engine_unless_one_is_set():
    assert runtime.resolve(RuntimeConfig()).engine == ENGINE
    assert runtime.resolve(RuntimeConfig(engine=1)).engine == 1


def test_attention_is_fused_unless_asked_otherwise():
    assert runtime.resolve(RuntimeConfig()).attention == "fused"
    assert runtime.resolve(RuntimeConfig(attention="math")).attention == "math"


@pytest.mark.parametrize("quantisation", ["nf4", "int8"])
def test_a_base_that_only_a_gpu_can_quantise_is_refused_on_a_cpu(monkeypatch, quantisation):
    for there in (True, False):
        monkeypatch.setattr(torch.cuda, "is_available", lambda there=there: there)
        with pytest.raises(StudioError, match=f"{quantisation} needs a GPU.* Set runtime.quantisation to one of: none, fp8"):
            runtime.resolve(RuntimeConfig(device="cpu", quantisation=quantisation))
    for possible in ("none", "fp8", None):
        assert runtime.resolve(RuntimeConfig(device="cpu", quantisation=possible)).quantisation == possible


def test_processes_are_at_most_the_gpus_on_cuda_and_any_number_on_a_cpu(monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda: (9, 0))
    for device in (None, "cuda"):
        assert runtime.resolve(RuntimeConfig(device=device, processes=2)).processes == 2
        with pytest.raises(StudioError, match=r"set to 3 processes \(runtime.processes\), and this computer has 2 GPUs"):
            runtime.resolve(RuntimeConfig(device=device, processes=3))
    assert runtime.resolve(RuntimeConfig(device="cpu", processes=8)).processes == 8


def test_uninitialised_memory_is_not_filled(kernels):
    runtime.apply(RuntimeConfig(device="cpu", dtype="float32", threads=torch.get_num_threads(), exact=True))
    assert torch.utils.deterministic.fill_uninitialized_memory is False


@pytest.mark.parametrize(("exact", "execution", "deterministic"), [(True, "compiled", True), (True, None, True), (False, "compiled", False)])
def test_compiled_exact_runs_choose_kernels_without_timing_them(monkeypatch, kernels, exact, execution, deterministic):
    import torch._inductor.config as inductor

    # Older versions of torch do not set it themselves.
    monkeypatch.setattr(torch, "use_deterministic_algorithms", lambda mode: None)
    monkeypatch.setattr(inductor, "deterministic", False)
    monkeypatch.setenv("CUBLAS_WORKSPACE_CONFIG", "")
    runtime.apply(RuntimeConfig(device="cuda", dtype="bfloat16", threads=torch.get_num_threads(), exact=exact, execution=execution))
    assert inductor.deterministic is deterministic
