"""What a machine decides is decided once, and only what it has."""

import pytest
import torch

from studio import runtime
from studio.config.runtime import RuntimeConfig
from studio.errors import StudioError


@pytest.mark.parametrize(("there", "device", "dtype"), [(False, "cpu", "float32"), (True, "cuda", "bfloat16")])
def test_what_was_left_open_is_filled_in(monkeypatch, there, device, dtype):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: there)
    chosen = runtime.choose(RuntimeConfig())
    assert (chosen.device, chosen.dtype) == (device, dtype) and chosen.threads >= 1
    assert runtime.choose(chosen) == chosen


@pytest.mark.parametrize("device", ["cuda", "cuda:1", "mps", "abacus"])
def test_a_device_that_is_not_there_is_refused_with_those_that_are(monkeypatch, device):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    with pytest.raises(StudioError, match=f"{device!r} is not on this computer, which has: cpu"):
        runtime.choose(RuntimeConfig(device=device))
