"""The numbers that learn: full-precision masters, their working copies inside the model, the optimizer, and a running average.

The working copies have the model's own precision, so that PEFT computes in it (it would lift every activation to the adapter's
precision otherwise); the optimizer changes the masters. In float32 both are the same tensors.
"""

import math

import torch
from torch import Tensor, nn

from studio.adapters.format import canonical_name
from studio.config import optimizers
from studio.config.training import TrainingConfig
from studio.training.optimizers import make_optimizer, text_share


class Learner:
    """`working` are the trainable parameters by their names in the adapter file; `of_text` those of text encoders."""

    def __init__(self, working: dict[str, nn.Parameter], training: TrainingConfig, of_text: set[str] = frozenset()):
        self.training = training
        self.entry = optimizers.get(training.optimizer)
        self.working = working
        self.masters = {name: weight if weight.dtype == torch.float32 else nn.Parameter(weight.detach().float()) for name, weight in working.items()}
        self.average = {name: weight.detach().clone() for name, weight in self.masters.items()} if training.ema_decay else {}
        groups = [
            {"params": [weight for name, weight in self.masters.items() if name not in of_text], "share": 1.0},
            {"params": [weight for name, weight in self.masters.items() if name in of_text], "share": text_share(training)},
        ]
        self.optimizer = make_optimizer(training, [group for group in groups if group["params"]])
        self.device = next(iter(self.masters.values())).device
        self.apart = any(self.masters[name] is not weight for name, weight in working.items())
        self._rate: float | None = None

    def set_rate(self, rate: float) -> None:
        """The learning rate of the coming steps, as a number in device memory where a recorded step reads it."""
        if rate == self._rate:
            return
        self._rate = rate
        for group in self.optimizer.param_groups:
            if isinstance(group["lr"], Tensor):
                group["lr"].fill_(rate * group["share"])
            else:
                group["lr"] = rate * group["share"]

    def gather(self) -> None:
        """Add what backward left in the working copies to the masters' gradients, in float32."""
        if not self.apart:
            return
        for name, weight in self.working.items():
            if weight.grad is not None:
                master = self.masters[name]
                master.grad = weight.grad.float() if master.grad is None else master.grad.add_(weight.grad)
                weight.grad = None

    def step(self) -> Tensor:
        """Clip, change the masters, copy them to the model. Returns the norm of the gradient before clipping, on the device.

        A norm that is not finite changes nothing (where the optimizer skips on the device; elsewhere the host looks).
        """
        norm = nn.utils.clip_grad_norm_(self.masters.values(), self.training.max_grad_norm, foreach=True)
        if self.entry.skips_on_device:
            # The protocol of torch's gradient scaler: the fused kernel leaves weights, moments and step count as they are.
            self.optimizer.grad_scale = None
            self.optimizer.found_inf = (~torch.isfinite(norm)).float()
        elif not math.isfinite(norm.item()):
            self.optimizer.zero_grad(set_to_none=True)
            return norm
        self.optimizer.step()
        self.optimizer.zero_grad(set_to_none=True)
        self.restore_copies()
        if self.average:
            self._follow(torch.isfinite(norm))
        return norm

    def _follow(self, whole: Tensor) -> None:
        """Move the average towards the masters; not at all after a step that was left out. No host looks at `whole`."""
        average = list(self.average.values())
        ahead = torch._foreach_sub([weight.detach() for weight in self.masters.values()], average)
        torch._foreach_mul_(ahead, (1 - self.training.ema_decay) * whole.float())
        torch._foreach_add_(average, ahead)

    def restore_copies(self) -> None:
        if self.apart:
            torch._foreach_copy_([weight.detach() for weight in self.working.values()], [weight.detach() for weight in self.masters.values()])

    def result(self) -> dict[str, Tensor]:
        """What an adapter file is made of, float32: the average if there is one, else the masters, at the point that is used where modes differ."""
        if self.average:
            return self.average
        if not self.entry.has_modes:
            return {name: weight.detach() for name, weight in self.masters.items()}
        # Its own way there and back rounds; the run must go on from the very same numbers.
        kept = [weight.detach().clone() for weight in self.masters.values()]
        self.optimizer.eval()
        found = {name: weight.detach().clone() for name, weight in self.masters.items()}
        self.optimizer.train()
        torch._foreach_copy_([weight.detach() for weight in self.masters.values()], kept)
        return found

    def start_from(self, tensors: dict[str, Tensor]) -> None:
        """Begin from these numbers instead of fresh ones."""
        for name, weight in self.masters.items():
            weight.detach().copy_(tensors[name])
            if self.average:
                self.average[name].copy_(tensors[name])
        self.restore_copies()

    def state(self) -> tuple[dict[str, Tensor], dict]:
        """(tensors, plain facts) from which `restore` continues to the same bytes, for any optimizer."""
        tensors = {f"weight/{name}": weight.detach() for name, weight in self.masters.items()}
        tensors |= {f"average/{name}": weight for name, weight in self.average.items()}
        numbers: dict[str, dict] = {}
        for name, weight in self.masters.items():
            for key, value in self.optimizer.state.get(weight, {}).items():
                if isinstance(value, Tensor):
                    tensors[f"optimizer/{key}/{name}"] = value
                else:
                    numbers.setdefault(name, {})[key] = value
        groups = [{key: _plain(value) for key, value in group.items() if key != "params"} for group in self.optimizer.param_groups]
        return tensors, {"numbers": numbers, "groups": groups}

    def restore(self, tensors: dict[str, Tensor], facts: dict) -> None:
        """Go back to what `state` gave, in an earlier version too, which named the layers of text encoders otherwise. In place where the
        optimizer has tensors already: a recorded step reads them there."""
        tensors = {canonical_name(name): tensor for name, tensor in tensors.items()}
        stated = {canonical_name(name): numbers for name, numbers in facts["numbers"].items()}
        states: dict[str, dict] = {name: dict(stated.get(name, {})) for name in self.masters}
        for key, value in tensors.items():
            kind, _, rest = key.partition("/")
            if kind == "optimizer":
                fact, _, name = rest.partition("/")
                states[name][fact] = value
        for name, weight in self.masters.items():
            weight.detach().copy_(tensors[f"weight/{name}"])
            if self.average:
                self.average[name].copy_(tensors[f"average/{name}"])
            self._restore_state(weight, states[name])
        for group, known in zip(self.optimizer.param_groups, facts["groups"], strict=True):
            for key, value in known.items():
                if isinstance(group.get(key), Tensor):
                    group[key].fill_(value)
                else:
                    group[key] = value
        self._rate = None
        self.restore_copies()

    def _restore_state(self, weight: nn.Parameter, kept: dict) -> None:
        state = self.optimizer.state.pop(weight, {})
        if self.entry.recordable:
            # Not begun yet, which is zeros for these optimizers.
            kept = {key: torch.zeros_like(value) for key, value in state.items()} | kept
        for key, value in kept.items():
            if isinstance(state.get(key), Tensor):
                kept[key] = state[key].copy_(value)
            elif isinstance(value, Tensor):
                # A step count stays where its optimizer keeps it: torch's fused kernels want it beside the weights.
                kept[key] = value.to(self.device, copy=True)
        if kept:
            self.optimizer.state[weight] = kept


def _plain(value):
    return value.item() if isinstance(value, Tensor) else list(value) if isinstance(value, tuple) else value
