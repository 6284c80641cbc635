"""Dynamic loss scaling for float16 (Micikevicius et al. 2018, section 3.2), as torch.amp.GradScaler does it, with a state that stays on the device.

Gradients below 6e-8 are zero in float16. The loss is multiplied by a power of two, so that they are not; the float32 gradients are divided by it.
"""

import torch
from torch import Tensor

FIRST_SCALE = 2.0**16
GROWTH, BACKOFF = 2.0, 0.5
STEPS_TO_GROW = 2000
"""Steps without overflow after which the scale grows. All values are the defaults of GradScaler."""


class LossScaler:
    """The scale and the number of steps since it changed: tensors, because a CUDA graph repeats the same Python numbers at every step."""

    def __init__(self, device: torch.device):
        self.scale = torch.full((), FIRST_SCALE, device=device)
        self.good_steps = torch.zeros((), dtype=torch.int32, device=device)

    def unscale(self, gradients: list[Tensor]) -> None:
        """Divide gradients by the scale, in place. Exact, since the scale is a power of two."""
        torch._foreach_mul_(gradients, self.scale.reciprocal())

    def update(self, overflow: Tensor) -> None:
        """Halve the scale after a step whose gradient overflowed; `overflow` is a float32 scalar, 1 or 0."""
        torch._amp_update_scale_(self.scale, self.good_steps, overflow, GROWTH, BACKOFF, STEPS_TO_GROW)

    def state(self) -> dict[str, Tensor]:
        return {"loss_scale": self.scale, "loss_scale_good_steps": self.good_steps}

    def restore(self, tensors: dict[str, Tensor]) -> None:
        """Overwrite the state in place."""
        for name, tensor in self.state().items():
            tensor.copy_(tensors[name])
