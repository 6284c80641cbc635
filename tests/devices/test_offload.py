"""Training with blocks offloaded to RAM. tests/families checks for every family that blocks are loaded when they compute."""

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
    monkeypatch.setattr(platform, "be_nice", lambda: None)
    monkeypatch.setattr(platform, "prefer_as_oom_victim", lambda: None)
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
