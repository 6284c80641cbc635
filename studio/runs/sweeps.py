"""Sweeps: `lora.rank=8,16,32` gives three runs, two such settings give a grid. No torch."""

import itertools
from collections.abc import Sequence
from dataclasses import dataclass

from studio.config import TrainConfig, fields
from studio.config.fields import Leaf
from studio.core.errors import StudioError

MOST_RUNS = 20
RANK, STEPS = "lora.rank", "training.max_train_steps"
IN_EVERY_NAME = (RANK, "lora.alpha", STEPS)
"""Settings that an automatic name contains; alpha follows the rank. See creation.automatic_name."""


@dataclass(frozen=True)
class Combination:
    """One run of a sweep: its settings with one value each, and a label that distinguishes it ("rank 8, flip true")."""

    settings: tuple[str, ...]
    label: str
    note: str = ""
    """What of the label an automatic name does not contain. An alpha that varies does not follow the rank."""

    def named(self, title: str) -> str:
        return f"{title}, {self.label}" if self.label else title


def is_sweepable(leaf: Leaf) -> bool:
    """Whether a setting can have several values: numbers, choices and booleans. In texts and lists a comma is part of the value."""
    return leaf.type is not list and (leaf.type is not str or leaf.choices is not None)


def combinations(settings: Sequence[str]) -> list[Combination]:
    """Every combination of settings such as "lora.rank=8,16"; a single one if no setting has several values.

    Values are not validated here, but when a config is built. StudioError for more than MOST_RUNS combinations.
    """
    known = {leaf.path: leaf for leaf in fields.leaves(TrainConfig())}
    axes = [_values(known.get(setting.partition("=")[0].strip()), setting) for setting in settings]
    count = 1
    for values in axes:
        count *= len(values)
    if count > MOST_RUNS:
        raise StudioError(f"These values give {count} runs, and at most {MOST_RUNS} can be queued at once; remove some values.")
    varied = [len(values) > 1 for values in axes]
    found = []
    for chosen in itertools.product(*axes):
        differing = [each for each, several in zip(chosen, varied) if several]
        label = ", ".join(setting_label(each) for each in differing)
        found.append(Combination(chosen, label, note(differing, (RANK, STEPS))))
    return found


def _values(leaf: Leaf | None, setting: str) -> tuple[str, ...]:
    """One setting per value. An unknown setting is returned unchanged; building the config reports it."""
    path, _, text = setting.partition("=")
    if leaf is None or not is_sweepable(leaf) or "," not in text:
        return (setting,)
    values = dict.fromkeys(value.strip() for value in text.split(",") if value.strip())
    return tuple(f"{leaf.path}={value}" for value in values) or (f"{path}=",)


def strip_settings(title: str, settings: Sequence[str]) -> str:
    """A title without the labels of these settings, so that a copy of "Ink, rank 8" with another rank does not have both labels."""
    names = tuple(setting_label(f"{setting.partition('=')[0]}=") + " " for setting in settings)
    first, *rest = title.split(", ")
    return ", ".join([first, *(part for part in rest if not part.startswith(names))])


def note(settings: Sequence[str], named: Sequence[str] = IN_EVERY_NAME) -> str:
    """Labels of the settings that an automatic name does not contain anyway."""
    return ", ".join(setting_label(each) for each in settings if each.partition("=")[0].strip() not in named)


def setting_label(setting: str) -> str:
    """ "lora.rank=8" -> "rank 8"."""
    path, _, value = setting.partition("=")
    return f"{path.strip().rpartition('.')[2].replace('_', ' ')} {value.strip()}".strip()
