"""The optimizer of the built-in model against what its paper promises."""

import pytest
import torch
from torch import nn

from studio.making.muon import Muon, orthogonalised, split


@pytest.mark.parametrize("shape", [(12, 40), (40, 12), (16, 16)])
def test_all_directions_get_about_the_same_length_and_keep_their_meaning(shape):
    gradient = torch.randn(2, *shape, generator=torch.Generator().manual_seed(0))
    U, S, Vh = torch.linalg.svd(gradient, full_matrices=False)
    update = orthogonalised(gradient).float()
    stretch = torch.linalg.svdvals(update)
    assert S.max() / S.min() > 2
    assert stretch.min() > 0.5 and stretch.max() < 1.35
    assert torch.nn.functional.cosine_similarity(update.flatten(), (U @ Vh).flatten(), 0) > 0.95


def test_a_network_of_all_kinds_of_parameters_learns():
    torch.manual_seed(0)
    network = nn.Sequential(nn.Conv2d(3, 8, 3, padding=1), nn.GroupNorm(2, 8), nn.SiLU(), nn.Conv2d(8, 3, 3, padding=1))
    muon, rest = split(network, 3e-3, apart=("0.",))
    assert [len(parameter.shape) for parameter in muon.param_groups[0]["params"]] == [4]
    images = torch.randn(4, 3, 8, 8)
    losses = []
    for _ in range(60):
        loss = (network(images) - images.flip(-1)).square().mean() + (network(images) - images).square().mean()
        loss.backward()
        for optimizer in (muon, rest):
            optimizer.step()
            optimizer.zero_grad()
        losses.append(loss.item())
    assert losses[-1] < 0.8 * losses[0]


def test_a_stopped_optimizer_goes_on_with_its_momentum():
    weight = nn.Parameter(torch.ones(4, 6))
    first = Muon([weight], lr=0.1)
    weight.grad = torch.randn(4, 6, generator=torch.Generator().manual_seed(1))
    first.step()
    second = Muon([weight], lr=0.1)
    second.load_state_dict(first.state_dict())
    assert torch.equal(second.state[weight]["momentum"], first.state[weight]["momentum"])
