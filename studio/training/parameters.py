"""Trainable parameters: float32 master weights, their copies in the model, the optimizer, and the EMA.

The copies have the dtype of the model, so that PEFT computes in it (otherwise it would cast every activation to the adapter's dtype);
the optimizer updates the master weights. In float32 both are the same tensors.
"""

import contextlib
import math
from collections.abc import Iterator, Set
from typing import cast

import torch
from torch import Tensor, nn

from studio.adapters.format import canonical_name
from studio.config import optimizers
from studio.config.training import TrainingConfig
from studio.training.loss_scaling import LossScaler
from studio.training.optimizers import HasModes, SkipsOnDevice, effective_rate, make_optimizer, text_share


class TrainedParameters:
    """Master weights, EMA and optimizer of a LoRA.

    `working`: the trainable parameters of the model by their names in the adapter file, of any dtype.
    `engine`: the run's engine version.
    `text_encoder_names`: the names among them that belong to text encoders, which have a learning rate of their own.
    """

    def __init__(self, working: dict[str, nn.Parameter], training: TrainingConfig, engine: int, text_encoder_names: Set[str] = frozenset()):
        self.training = training
        self.entry = optimizers.get(training.optimizer)
        self.working = working
        self.masters = {name: weight if weight.dtype == torch.float32 else nn.Parameter(weight.detach().float()) for name, weight in working.items()}
        self.ema_decay = training.ema_decay or 0.0
        self.ema = {name: weight.detach().clone() for name, weight in self.masters.items()} if self.ema_decay else {}
        groups = [
            {"params": [weight for name, weight in self.masters.items() if name not in text_encoder_names], "share": 1.0},
            {"params": [weight for name, weight in self.masters.items() if name in text_encoder_names], "share": text_share(training)},
        ]
        self.optimizer = make_optimizer(training, [group for group in groups if group["params"]])
        self.device = next(iter(self.masters.values())).device
        self.ema_updates = torch.zeros((), device=self.device) if self.ema and engine >= 2 else None
        """Number of EMA updates, for its warm-up. A tensor, because a CUDA graph repeats the same Python numbers at every step."""
        # Only copies in float16 need it: bfloat16 has the range of float32.
        self.scaler = LossScaler(self.device) if any(weight.dtype == torch.float16 for weight in working.values()) else None
        self.has_copies = any(self.masters[name] is not weight for name, weight in working.items())
        self._rate: float | None = None

    def scaled(self, loss: Tensor) -> Tensor:
        """The loss to call backward() on: multiplied by the loss scale in float16."""
        return loss * self.scaler.scale if self.scaler else loss

    def set_rate(self, rate: float) -> None:
        """Set the learning rate of all parameter groups; in place where it is a tensor, because a CUDA graph reads it from device memory."""
        if rate == self._rate:
            return
        self._rate = rate
        for group in self.optimizer.param_groups:
            if isinstance(group["lr"], Tensor):
                group["lr"].fill_(rate * group["share"])
            else:
                group["lr"] = rate * group["share"]

    @property
    def effective_rate(self) -> Tensor | None:
        """The learning rate that the optimizer has found, a scalar on some device; None for optimizers that use the configured one."""
        return effective_rate(self.entry, self.optimizer)

    def accumulate(self) -> None:
        """Add the gradients of the model's copies to those of the master weights, in float32, and clear them."""
        if not self.has_copies:
            return
        for name, weight in self.working.items():
            if weight.grad is not None:
                master = self.masters[name]
                master.grad = weight.grad.float() if master.grad is None else master.grad.add_(weight.grad)
                weight.grad = None

    def step(self) -> Tensor:
        """Clip the gradient, update the master weights and the EMA, copy them to the model.

        Returns the gradient norm before clipping, a scalar on the device. A norm that is not finite changes nothing; this is decided on the
        device where the optimizer supports it, otherwise on the host.
        """
        if self.scaler:
            self.scaler.unscale([weight.grad for weight in self.masters.values() if weight.grad is not None])
        norm = nn.utils.clip_grad_norm_(self.masters.values(), self.training.max_grad_norm, foreach=True)
        if self.entry.skips_on_device:
            # The protocol of torch.amp.GradScaler: with found_inf the fused kernel changes neither weights nor moments nor step count.
            optimizer = cast(SkipsOnDevice, self.optimizer)
            optimizer.grad_scale, optimizer.found_inf = None, (~torch.isfinite(norm)).float()
        if self.scaler:
            self.scaler.update((~torch.isfinite(norm)).float())
        if not self.entry.skips_on_device and not math.isfinite(norm.item()):
            self.optimizer.zero_grad(set_to_none=True)
            return norm
        self.optimizer.step()
        self.optimizer.zero_grad(set_to_none=True)
        self.copy_to_model()
        if self.ema:
            self._update_ema(torch.isfinite(norm))
        return norm

    def _update_ema(self, finite: Tensor) -> None:
        """ema += (1 - decay) * (master - ema), or nothing after a skipped step. `finite` is a bool scalar that stays on the device.

        The decay of update n, from 1, is min(decay, (1 + n) / (10 + n)), as in TensorFlow's ExponentialMovingAverage: with a constant one the
        initial weights would dominate the average of a short run.
        """
        ema = list(self.ema.values())
        difference = torch._foreach_sub([weight.detach() for weight in self.masters.values()], ema)
        if self.ema_updates is None:
            step_size = (1 - self.ema_decay) * finite.float()
        else:
            self.ema_updates += finite.float()
            warm_up = (1 + self.ema_updates) / (10 + self.ema_updates)
            step_size = (1 - warm_up.clamp(max=self.ema_decay)) * finite.float()
        torch._foreach_mul_(difference, step_size)
        torch._foreach_add_(ema, difference)

    def copy_to_model(self) -> None:
        """Round the master weights to the dtype of the model and copy them into it."""
        if self.has_copies:
            torch._foreach_copy_([weight.detach() for weight in self.working.values()], [weight.detach() for weight in self.masters.values()])

    def adapter_weights(self) -> dict[str, Tensor]:
        """Weights for the adapter file, float32: the EMA if there is one, otherwise the master weights.

        For optimizers with train and eval modes (schedule-free) these are the weights of eval mode.
        """
        if self.ema:
            return self.ema
        if not self.entry.has_modes:
            return {name: weight.detach() for name, weight in self.masters.items()}
        # Switching to eval mode and back rounds the weights, and training has to continue from the same bits.
        saved = [weight.detach().clone() for weight in self.masters.values()]
        optimizer = cast(HasModes, self.optimizer)
        optimizer.eval()
        weights = {name: weight.detach().clone() for name, weight in self.masters.items()}
        optimizer.train()
        torch._foreach_copy_([weight.detach() for weight in self.masters.values()], saved)
        return weights

    @contextlib.contextmanager
    def saved_weights_in_model(self) -> Iterator[None]:
        """Put the weights of the adapter file into the model, in place, and afterwards the trained ones back, bit for bit."""
        if not self.ema and not self.entry.has_modes:
            yield
            return
        working = [weight.detach() for weight in self.working.values()]
        trained = [weight.clone() for weight in working]
        weights = self.adapter_weights()
        torch._foreach_copy_(working, [weights[name] for name in self.working])
        try:
            yield
        finally:
            torch._foreach_copy_(working, trained)

    def load_weights(self, tensors: dict[str, Tensor]) -> None:
        """Overwrite the initial weights (and the EMA) with `tensors`, by their names in the adapter file."""
        for name, weight in self.masters.items():
            weight.detach().copy_(tensors[name])
            if self.ema:
                self.ema[name].copy_(tensors[name])
        self.copy_to_model()

    def state(self) -> tuple[dict[str, Tensor], dict]:
        """(tensors, JSON values) from which `restore` continues bit for bit: weights, EMA, and the state of any optimizer."""
        tensors = {f"weight/{name}": weight.detach() for name, weight in self.masters.items()}
        tensors |= {f"average/{name}": weight for name, weight in self.ema.items()}
        if self.ema_updates is not None:
            tensors["ema_updates"] = self.ema_updates
        if self.scaler:
            tensors |= self.scaler.state()
        scalars: dict[str, dict] = {}
        for name, weight in self.masters.items():
            for key, value in self.optimizer.state.get(weight, {}).items():
                if isinstance(value, Tensor):
                    tensors[f"optimizer/{key}/{name}"] = value
                else:
                    scalars.setdefault(name, {})[key] = value
        groups = [{key: _plain(value) for key, value in group.items() if key != "params"} for group in self.optimizer.param_groups]
        return tensors, {"numbers": scalars, "groups": groups}

    def restore(self, tensors: dict[str, Tensor], facts: dict) -> None:
        """Load what `state` returned, also in an earlier version, which named the layers of text encoders differently.

        Existing optimizer tensors are overwritten in place, because a CUDA graph reads their addresses.
        """
        tensors = {canonical_name(name): tensor for name, tensor in tensors.items()}
        scalars = {canonical_name(name): values for name, values in facts["numbers"].items()}
        states: dict[str, dict] = {name: dict(scalars.get(name, {})) for name in self.masters}
        for key, value in tensors.items():
            kind, _, suffix = key.partition("/")
            if kind == "optimizer":
                entry, _, name = suffix.partition("/")
                states[name][entry] = value
        for name, weight in self.masters.items():
            weight.detach().copy_(tensors[f"weight/{name}"])
            if self.ema:
                self.ema[name].copy_(tensors[f"average/{name}"])
            self._restore_state(weight, states[name])
        if self.scaler:
            self.scaler.restore(tensors)
        if self.ema_updates is not None:
            self.ema_updates.copy_(tensors["ema_updates"])
        for group, saved in zip(self.optimizer.param_groups, facts["groups"], strict=True):
            for key, value in saved.items():
                if isinstance(group.get(key), Tensor):
                    group[key].fill_(value)
                else:
                    group[key] = value
        self._rate = None
        self.copy_to_model()

    def _restore_state(self, weight: nn.Parameter, saved: dict) -> None:
        """Set the optimizer state of one weight; scalar tensors and moments go to the device of the weights."""
        state = self.optimizer.state.pop(weight, {})
        if self.entry.capturable:
            # A missing entry is the state before the first step, which is zero for these optimizers.
            saved = {key: torch.zeros_like(value) for key, value in state.items()} | saved
        for key, value in saved.items():
            if isinstance(state.get(key), Tensor):
                saved[key] = state[key].copy_(value)
            elif isinstance(value, Tensor):
                # Also step counts: torch's fused kernels need them on the device of the weights.
                saved[key] = value.to(self.device, copy=True)
        if saved:
            self.optimizer.state[weight] = saved


def _plain(value):
    """A value of a parameter group as JSON can hold it."""
    return value.item() if isinstance(value, Tensor) else list(value) if isinstance(value, tuple) else value
