"""Training with blocks offloaded to RAM. tests/families checks for every family that blocks are loaded when they compute."""

import json
import subprocess
import sys

import pytest
import torch
from safetensors.torch import load

from studio import config as configs
from studio.core import platform
from studio.core.errors import StudioError
from studio.devices.offload import Offload, place_denoiser
from studio.families import get
from studio.training import loop
from tests.tiny import tiny_base, tiny_run  # noqa: F401 - fixtures
from tests.training.test_engine import TWELVE, result, stop_at


@pytest.fixture
def simulate_offload(monkeypatch):
    """Offload with the CPU as the device: evicted and loaded tensors are both in RAM, and evicted blocks are empty."""
    enabled = []

    def instead(denoiser, family, config, device):
        offload = Offload(denoiser, family.blocks(denoiser), device)
        offload.enable()
        enabled.append(offload)
        return offload

    return lambda: (monkeypatch.setattr(loop, "place_denoiser", instead), enabled)[1]


@pytest.mark.parametrize("method", ["lora", "dora"])
def test_offloading_gives_the_same_weights_and_resumes_to_the_same_bytes(method, workspace, tiny_base, simulate_offload):  # noqa: F811
    settings = (*TWELVE, "runtime.gradient_checkpointing=true", f"lora.method={method}", "prior.prompt=a cat", "prior.pictures=2")
    resident, offloaded, interrupted = (tiny_run(workspace, tiny_base, *settings) for _ in range(3))
    expected, enabled = load(result(resident)), simulate_offload()
    found = result(offloaded)
    # Tensors at other addresses may be summed in another order.
    torch.testing.assert_close(load(found), expected, rtol=1e-4, atol=1e-5)
    assert len(enabled) == 1 and enabled[0].blocks
    stop_at(interrupted, 5)
    assert result(interrupted) == found


@pytest.fixture(scope="module")
def peaks(tmp_path_factory) -> dict[str, dict]:
    """Way of loading and pinning -> peak RAM in bytes of the phases of offloading."""
    command = [sys.executable, "-m", "tests.devices.offload_memory", str(tmp_path_factory.mktemp("base"))]
    output = subprocess.run(command, env=platform.environment(), cwd=platform.REPOSITORY, capture_output=True, text=True, check=True).stdout
    return json.loads(output.splitlines()[-1])


@pytest.mark.skipif(not platform.LINUX, reason="/proc")
@pytest.mark.parametrize("how", ["files", "cast"])
def test_an_offloaded_base_needs_its_own_size_in_ram_also_while_it_is_evicted(peaks, how):
    found = peaks[f"{how} registered"]
    assert found["enabled"] <= 1.15 * found["base"] and found["again"] <= 1.15 * found["base"]
    assert found["base"] <= found["pinned"] <= 1.01 * found["base"], "the allocator would round up to 1.58 times the base"
    assert found["registered while disabled"] == 0


@pytest.mark.skipif(not platform.LINUX, reason="/proc")
def test_ram_that_cuda_cannot_register_is_pinned_by_torch(peaks):
    found = peaks["files allocated"]
    assert found["pinned"] > found["base"] and found["notes"][0].startswith("CUDA cannot register RAM (error 801)")
    # The peak of a process moves by some pages from one moment to the next.
    assert found["again"] <= found["enabled"] + 2**22, "pinned a second time"


@pytest.mark.skipif(not torch.cuda.is_available(), reason="CUDA")
def test_blocks_on_a_gpu_are_registered_and_compute_the_same():
    model = torch.nn.Sequential(*(torch.nn.Linear(*widths) for widths in ((301, 401), (401, 301)) * 3)).requires_grad_(False)
    inputs, device = torch.randn(5, 301), torch.device("cuda")
    expected = model.to(device)(inputs.to(device)).cpu()
    offload = Offload(model.to("cpu"), list(model), device)
    for _ in range(2):
        offload.enable()
        assert not offload.notes and len(offload.registered) == len(model)
        assert all(buffer.is_pinned() for buffer in offload.registered)
        for _ in range(3):
            assert torch.equal(model(inputs.to(device)).cpu(), expected)
        buffers = list(offload.registered)
        offload.disable()
        assert not any(buffer.is_pinned() for buffer in buffers)


class Mixed(torch.nn.Module):
    """Frozen tensors of several dtypes and memory layouts."""

    def __init__(self):
        super().__init__()
        self.conv = torch.nn.Conv2d(3, 5, 3).to(memory_format=torch.channels_last)
        self.transposed = torch.nn.Parameter(torch.randn(7, 3).T)
        self.expanded = torch.nn.Parameter(torch.randn(4, 1).expand(4, 6))
        self.bfloat = torch.nn.Parameter(torch.randn(3, dtype=torch.bfloat16))
        self.register_buffer("mask", torch.tensor([True, False, True]))
        self.register_buffer("scalar", torch.tensor(3, dtype=torch.int64))
        self.register_buffer("none", torch.empty(0))
        self.requires_grad_(False)
        self.lora = torch.nn.Parameter(torch.randn(2))
        self.seen = {}

    def forward(self):
        self.seen = {name: (tensor.clone(), tensor.stride(), tensor.data_ptr() % 64) for name, tensor in self.state_dict().items()}


def test_loaded_tensors_have_the_bytes_layout_and_alignment_of_their_own():
    block = Mixed()
    before = {name: (tensor.clone(), torch.empty_like(tensor).stride()) for name, tensor in block.state_dict().items()}
    offload = Offload(block, [block], torch.device("cpu"))
    for _ in range(2):
        offload.enable()
        block()
        assert block.conv.weight.numel() == 0 and block.lora.numel() == 2
        offload.disable()
        after = {name: (tensor, tensor.stride()) for name, tensor in block.state_dict().items()}
        for name, (tensor, stride) in before.items():
            assert torch.equal(block.seen[name][0], tensor) and torch.equal(after[name][0], tensor), name
            assert block.seen[name][1] == after[name][1] == stride, name
            assert not tensor.numel() or name == "lora" or block.seen[name][2] == 0, name


def test_a_tensor_that_blocks_share_stays_on_the_device():
    first, second = torch.nn.Linear(3, 3).requires_grad_(False), torch.nn.Linear(3, 3).requires_grad_(False)
    second.weight, inputs = first.weight, torch.randn(2, 3)
    model = torch.nn.Sequential(first, second)
    expected = model(inputs)
    offload = Offload(model, [first, second], torch.device("cpu"))
    offload.enable()
    assert first.weight.numel() == 9 and first.bias.numel() == 0
    torch.testing.assert_close(model(inputs), expected)
    offload.disable()
    torch.testing.assert_close(model(inputs), expected)


def test_a_block_quantised_to_nf4_computes_the_same_when_offloaded():
    bitsandbytes = pytest.importorskip("bitsandbytes")
    block = bitsandbytes.nn.Linear4bit(64, 96, quant_type="nf4", compute_dtype=torch.float32).requires_grad_(False).to("cpu")
    inputs = torch.randn(2, 64)
    expected = block(inputs)
    assert block.weight.dtype == torch.uint8 and block.weight.quant_state is not None
    offload = Offload(block, [block], torch.device("cpu"))
    offload.enable()
    assert block.weight.numel() == 0
    assert torch.equal(block(inputs), expected)
    offload.disable()
    assert torch.equal(block(inputs), expected)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        (("runtime.gradient_checkpointing=false",), "needs gradient checkpointing"),
        (("runtime.quantisation=fp8",), "quantised to fp8 cannot be offloaded"),
        (("runtime.quantisation=nf4", "lora.method=dora"), "Switch one of DoRA, nf4 and offload off"),
    ],
)
def test_settings_that_cannot_be_offloaded_are_an_error(settings, message):
    config = configs.build({"runtime": {"offload": True, "gradient_checkpointing": True, "quantisation": "none"}}, *settings)
    with pytest.raises(StudioError, match=message):
        place_denoiser(torch.nn.Linear(1, 1), get("flux"), config, torch.device("cuda"))
