"""Optimizers, created from their entries in `studio.config.optimizers`."""

import importlib
from typing import Protocol, cast

import torch

from studio.config import optimizers
from studio.config.training import TrainingConfig
from studio.core.errors import StudioError


class HasModes(Protocol):
    """An optimizer whose entry says `has_modes`."""

    def train(self) -> None: ...

    def eval(self) -> None: ...


class SkipsOnDevice(Protocol):
    """An optimizer whose entry says `skips_on_device`: the attributes by which torch.amp.GradScaler tells it of a gradient that is not finite."""

    grad_scale: torch.Tensor | None
    found_inf: torch.Tensor | None


TEXT_ENCODER_SHARE = 0.1
"""Factor of the learning rate for text encoders, if `training.text_encoder_learning_rate` is empty."""


def check_optimizer(training: TrainingConfig) -> None:
    """StudioError for settings that the chosen optimizer does not support."""
    entry = optimizers.get(training.optimizer)
    if entry.finds_rate and training.text_encoder_learning_rate is not None:
        raise StudioError(
            f"{entry.title} finds one learning rate for all trained parameters, so the text encoder cannot have its own "
            f"({training.text_encoder_learning_rate:g}). Leave the learning rate of the text encoder empty."
        )
    if entry.excludes_schedule and (training.lr_scheduler != "constant" or training.lr_warmup_steps):
        raise StudioError(
            f"{entry.title} never reads the learning rate, so the schedule {training.lr_scheduler} with {training.lr_warmup_steps} warm-up steps "
            "would do nothing. Set the schedule to constant and the warm-up steps to 0, or choose another optimizer."
        )


def text_share(training: TrainingConfig) -> float:
    """Learning rate of text encoders divided by the learning rate."""
    if optimizers.get(training.optimizer).finds_rate:
        return 1.0
    return (training.text_encoder_learning_rate or TEXT_ENCODER_SHARE * training.learning_rate) / training.learning_rate


def effective_rate(entry: optimizers.Optimizer, optimizer: torch.optim.Optimizer) -> torch.Tensor | None:
    """The learning rate that an optimizer has found, a scalar that is not read from the device; None for one that finds none."""
    group = optimizer.param_groups[0]
    if entry.rate_factor:
        return torch.tensor(group[entry.rate_factor] * group["lr"])
    if not entry.arguments.get("relative_step") or not optimizer.state:
        return None
    # Every matrix has its own (Shazeer & Stern 2018, section 8); this is their mean.
    states = optimizer.state.values()
    sizes = torch.stack([state["RMS"] for state in states]).clamp(min=group["eps"][1])
    return sizes.mean() * min(1e-2, max(state["step"] for state in states) ** -0.5)


def make_optimizer(training: TrainingConfig, groups: list[dict]) -> torch.optim.Optimizer:
    """Create the optimizer for parameter groups of {"params", "share"}. StudioError with the command to run if its package is not installed."""
    entry = optimizers.get(training.optimizer)
    device = groups[0]["params"][0].device
    if entry.capturable:
        groups = [{**group, "lr": torch.tensor(training.learning_rate, device=device)} for group in groups]
    arguments = {"lr": training.learning_rate, "weight_decay": training.weight_decay, **entry.arguments}
    if device.type == "cuda":
        arguments |= entry.cuda_arguments
    optimizer = _optimizer_class(entry)(groups, **arguments)
    if entry.has_modes:
        cast(HasModes, optimizer).train()
    return optimizer


def _optimizer_class(entry: optimizers.Optimizer) -> type[torch.optim.Optimizer]:
    module, _, name = entry.class_path.partition(":")
    try:
        return getattr(importlib.import_module(module), name)
    except ModuleNotFoundError as error:
        if error.name != module.partition(".")[0]:
            raise
        raise StudioError(
            f"The optimizer {entry.name} needs the package {entry.package}, which is not installed. "
            f"Run: pip install {entry.package}. Or choose {optimizers.OPTIMIZERS[0].name}."
        ) from None
