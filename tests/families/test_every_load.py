"""A denoiser that is loaded to a device tensor by tensor is the one that is loaded as a whole."""

import pytest
import torch

from tests.families.members import KINDS, of_kinds


@of_kinds(KINDS)
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=str)
def test_a_denoiser_loaded_to_a_device_is_the_same(member, dtype):
    family, parts = member.family, (member.family.denoiser_name,)
    whole, straight = (
        family.load(member.base, dtype, parts, denoiser_device=device).components[family.denoiser_name] for device in (None, torch.device("cpu"))
    )
    expected, found = ({**dict(each.named_parameters()), **dict(each.named_buffers())} for each in (whole, straight))
    assert expected.keys() == found.keys()
    for name, tensor in expected.items():
        assert found[name].dtype == tensor.dtype and torch.equal(found[name], tensor), name
    assert not straight.training and not any(weight.requires_grad for weight in straight.parameters())
    # No hooks that move inputs at every call.
    assert not any(module._forward_hooks or module._forward_pre_hooks or hasattr(module, "_hf_hook") for module in straight.modules())
    assert straight.to(torch.float16).dtype == torch.float16
