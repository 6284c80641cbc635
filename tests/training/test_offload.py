"""A training whose blocks wait in main memory. That they are there when they compute is asked of every family in tests/families."""

import pytest
import torch
from safetensors.torch import load

from studio import config as configs
from studio.core import platform
from studio.core.errors import StudioError
from studio.families import get
from studio.training import loop
from studio.training.offload import Offload, place
from tests.tiny import tiny_base, tiny_run  # noqa: F401 - fixtures
from tests.training.test_engine import TWELVE, result, stop_at


@pytest.fixture
def waiting(monkeypatch):
    """From now on the processor is the card: what waits and what comes are both in main memory, and blocks are empty in between."""
    monkeypatch.setattr(platform, "be_nice", lambda: None)
    monkeypatch.setattr(platform, "prefer_as_oom_victim", lambda: None)
    begun = []

    def instead(denoiser, family, config, device):
        offload = Offload(denoiser, family.blocks(denoiser), device)
        offload.begin()
        begun.append(offload)
        return offload

    return lambda: (monkeypatch.setattr(loop, "place", instead), begun)[1]


@pytest.mark.parametrize("method", ["lora", "dora"])
def test_it_ends_like_one_whose_blocks_stay_and_resumes_to_the_same_bytes(method, workspace, tiny_base, waiting):  # noqa: F811
    settings = (*TWELVE, "runtime.gradient_checkpointing=true", f"lora.method={method}", "prior.prompt=a cat", "prior.pictures=2")
    stays, waits, halved = (tiny_run(workspace, tiny_base, *settings) for _ in range(3))
    expected, begun = load(result(stays)), waiting()
    found = result(waits)
    # Numbers that lie elsewhere in memory may be added in another order.
    torch.testing.assert_close(load(found), expected, rtol=1e-4, atol=1e-5)
    assert len(begun) == 1 and begun[0].blocks
    stop_at(halved, 5)
    assert result(halved) == found


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        (("runtime.gradient_checkpointing=false",), "needs them computed twice"),
        (("runtime.quantisation=fp8",), "packed as fp8 cannot wait"),
        (("runtime.quantisation=nf4", "lora.method=dora"), "switch one of the three off"),
    ],
)
def test_what_cannot_wait_is_refused_in_a_sentence(settings, words):
    config = configs.build({"runtime": {"offload": True, "gradient_checkpointing": True, "quantisation": "none"}}, *settings)
    with pytest.raises(StudioError, match=words):
        place(torch.nn.Linear(1, 1), get("flux"), config, torch.device("cuda"))
