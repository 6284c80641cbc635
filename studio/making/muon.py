"""Muon optimizer for matrices: momentum whose singular values are brought to about one before it is applied.

Jordan et al. 2024, "Muon: an optimizer for hidden layers in neural networks", with the scale of arXiv 2502.16982, section 2.2, which
lets it share AdamW's learning rates. From one state of this U-Net, 300 steps with the same batches and noise ended 1.7 % lower than
AdamW's, and each took a tenth longer.
"""

from collections.abc import Sequence

import torch
from torch import nn

from studio.making.progress import adamw

COEFFICIENTS = (3.4445, -4.7750, 2.0315)
"""Coefficients of the quintic iteration that drives every singular value towards one."""


def orthogonalised(matrices_BMN: torch.Tensor, repetitions: int = 5) -> torch.Tensor:
    """Orthogonalise each matrix: singular values between about 0.7 and 1.2, same singular vectors (Newton-Schulz in 16 bits)."""
    a, b, c = COEFFICIENTS
    x = matrices_BMN.bfloat16()
    tall = x.size(-2) > x.size(-1)
    x = x.mT if tall else x
    x = x / (x.norm(dim=(-2, -1), keepdim=True) + 1e-7)
    for _ in range(repetitions):
        square = x @ x.mT
        x = torch.baddbmm(x, torch.baddbmm(square, square, square, beta=b, alpha=c), x, beta=a)
    return x.mT if tall else x


class Muon(torch.optim.Optimizer):
    """Convolutions are matrices of (out, in * height * width); parameters of one shape are processed as a batch."""

    def __init__(self, parameters, lr: float, momentum: float = 0.95, weight_decay: float = 0.01):
        super().__init__(parameters, {"lr": lr, "initial_lr": lr, "momentum": momentum, "weight_decay": weight_decay})

    @torch.no_grad()
    def step(self) -> None:  # type: ignore[override]  # torch also allows a closure, which Muon has no use for
        for group in self.param_groups:
            shapes: dict[tuple[int, int], list[tuple[torch.Tensor, torch.Tensor]]] = {}
            for parameter in group["params"]:
                state = self.state[parameter]
                if not state:
                    state["momentum"] = torch.zeros_like(parameter)
                state["momentum"].lerp_(parameter.grad, 1 - group["momentum"])
                ahead = parameter.grad.lerp(state["momentum"], group["momentum"])
                rows = len(parameter)
                shapes.setdefault((rows, parameter.numel() // rows), []).append((parameter, ahead))
            for (rows, columns), pairs in shapes.items():
                updates = orthogonalised(torch.stack([ahead.reshape(rows, columns) for _, ahead in pairs])).float()
                size = group["lr"] * 0.2 * max(rows, columns) ** 0.5
                for (parameter, _), update in zip(pairs, updates):
                    parameter.mul_(1 - group["lr"] * group["weight_decay"])
                    parameter.add_(update.reshape(parameter.shape), alpha=-size)


def split(
    network: nn.Module, rate: float, apart: tuple[str, ...], weight_decay: float = 0.01, more: Sequence[tuple[nn.Module, float]] = ()
) -> tuple[Muon, torch.optim.AdamW]:
    """Muon for the network's matrices; AdamW for norms, biases, parameters whose name starts with one in `apart`, and the modules in `more`."""
    matrices = {name: value for name, value in network.named_parameters() if value.ndim >= 2 and not name.startswith(apart)}
    others = nn.ParameterList(value for name, value in network.named_parameters() if name not in matrices)
    return Muon(list(matrices.values()), rate, weight_decay=weight_decay), adamw([(others, rate), *more], weight_decay)
