"""Optimizer and schedule in settings of other trainers: found in the registries by what that trainer calls them."""

from collections.abc import Mapping
from typing import Any

from studio.config import optimizers, registry, schedules
from studio.config.foreign.border import Border, word
from studio.config.optimizers import Optimizer


def take_optimizer(border: Border, trainer: str, setting: str, name: str, arguments: Mapping[str, Any]) -> Optimizer:
    """Set the optimizer that `trainer` calls `name`. Of several entries with that name it is the one made with these arguments, the first of
    which counts most."""
    usual = optimizers.OPTIMIZERS[0]
    found = registry.called(optimizers.OPTIMIZERS, trainer, name)
    entry = min(found, key=lambda each: list(differing(each, arguments).values()), default=usual)
    if not found:
        known = ", ".join(each.name for each in optimizers.OPTIMIZERS)
        border.leave(setting, f"the studio has {known}; {usual.name} is used, so check the learning rate.")
        border.values["training.optimizer"] = usual.name
    elif border.said(setting):
        border.take(setting, "training.optimizer", entry.name)
    if entry.finds_rate:
        border.values["training.text_encoder_learning_rate"] = None
    return entry


def differing(entry: Optimizer, arguments: Mapping[str, Any]) -> dict[str, bool]:
    """Argument -> whether the entry is made with another value, or does not state one."""
    return {name: name not in entry.arguments or entry.arguments[name] != value for name, value in arguments.items()}


def leave_text_encoder_rate(border: Border, setting: str) -> bool:
    """Whether the optimizer finds one rate for everything that learns; a rate of text encoders is then left."""
    entry = optimizers.get(border.values.get("training.optimizer", optimizers.OPTIMIZERS[0].name))
    if entry.finds_rate and border.said(setting):
        border.leave(setting, f"{entry.title} finds one learning rate for everything that learns.", matters=False)
    return entry.finds_rate


def take_schedule(border: Border, trainer: str, entry: Optimizer, setting: str, warmup_setting: str) -> str:
    """Set the schedule; returns what `trainer` calls it, empty where the optimizer excludes one."""
    if entry.excludes_schedule:
        for each in (setting, warmup_setting):
            if border.said(each):
                border.leave(each, f"{entry.title} never reads the learning rate.", matters=False)
        border.values |= {"training.lr_scheduler": "constant", "training.lr_warmup_steps": 0}
        return ""
    name = border.read(setting, word, "constant").lower()
    found = registry.called(schedules.SCHEDULES, trainer, name)
    if not found:
        nearest = next((each.name for each in schedules.SCHEDULES if trainer in each.names and each.name in name), "constant")
        border.leave(setting, f"the studio has no counterpart of its kind; {nearest} is used.")
        border.values["training.lr_scheduler"] = nearest
    elif border.said(setting):
        border.take(setting, "training.lr_scheduler", found[0].name)
    return name
