"""Optimizer and schedule in settings of other trainers: found in the registries by what that trainer calls them."""

from collections.abc import Mapping
from typing import Any

from studio.config import optimizers, registry, schedules
from studio.config.foreign.reader import SettingsReader, text
from studio.config.optimizers import Optimizer


def take_optimizer(reader: SettingsReader, trainer: str, setting: str, name: str, arguments: Mapping[str, Any]) -> Optimizer:
    """Set the optimizer that `trainer` calls `name`. Of several entries with that name it is the one made with these arguments, the first of
    which counts most."""
    usual = optimizers.OPTIMIZERS[0]
    found = registry.called(optimizers.OPTIMIZERS, trainer, name)
    entry = min(found, key=lambda each: list(differing(each, arguments).values()), default=usual)
    if not found:
        known = ", ".join(each.name for each in optimizers.OPTIMIZERS)
        reader.skip(setting, f"the studio has {known}; {usual.name} is used, so check the learning rate.")
        reader.values["training.optimizer"] = usual.name
    elif reader.has(setting):
        reader.set(setting, "training.optimizer", entry.name)
    if entry.finds_rate:
        reader.values["training.text_encoder_learning_rate"] = None
    return entry


def differing(entry: Optimizer, arguments: Mapping[str, Any]) -> dict[str, bool]:
    """Argument -> whether the entry is made with another value, or does not state one."""
    return {name: name not in entry.arguments or entry.arguments[name] != value for name, value in arguments.items()}


def skip_argument(reader: SettingsReader, entry: Optimizer, setting: str, shown: str, argument: str, default: bool) -> None:
    """List an argument, shown as `shown`, that the entry is not made with. `default`: it is not in the file, the trainer passes it."""
    used = repr(entry.arguments[argument]) if argument in entry.arguments else "the optimizer's default"
    reader.skip(setting, f"the studio uses {used}.", shown=f"{shown}, that trainer's default" if default else shown)


def leave_text_encoder_rate(reader: SettingsReader, setting: str) -> bool:
    """Whether the optimizer finds one rate for everything that learns; a rate of text encoders is then left."""
    entry = optimizers.get(reader.values.get("training.optimizer", optimizers.OPTIMIZERS[0].name))
    if entry.finds_rate and reader.has(setting):
        reader.skip(setting, f"{entry.title} finds one learning rate for everything that learns.", matters=False)
    return entry.finds_rate


def take_schedule(reader: SettingsReader, trainer: str, entry: Optimizer, setting: str, warmup_setting: str) -> str:
    """Set the schedule; returns what `trainer` calls it, empty where the optimizer excludes one."""
    if entry.excludes_schedule:
        for each in (setting, warmup_setting):
            if reader.has(each):
                reader.skip(each, f"{entry.title} never reads the learning rate.", matters=False)
        reader.values |= {"training.lr_scheduler": "constant", "training.lr_warmup_steps": 0}
        return ""
    name = reader.read(setting, text, "constant").lower()
    found = registry.called(schedules.SCHEDULES, trainer, name)
    if not found:
        nearest = next((each.name for each in schedules.SCHEDULES if trainer in each.names and each.name in name), "constant")
        reader.skip(setting, f"the studio has no counterpart of its kind; {nearest} is used.")
        reader.values["training.lr_scheduler"] = nearest
    elif reader.has(setting):
        reader.set(setting, "training.lr_scheduler", found[0].name)
    return name
