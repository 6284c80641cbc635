"""Several values for a setting: `lora.rank=8,16,32` is three runs, two such settings make a grid. No torch."""

import itertools
from collections.abc import Sequence
from dataclasses import dataclass

from studio.config import TrainConfig, fields
from studio.config.fields import Leaf
from studio.core.errors import StudioError

MOST_RUNS = 20


@dataclass(frozen=True)
class Combination:
    """One run of a sweep: its settings, one value each, and the words that tell it from the others ("rank 8, flip true")."""

    settings: tuple[str, ...]
    words: str

    def named(self, title: str) -> str:
        return f"{title}, {self.words}" if self.words else title


def is_sweepable(leaf: Leaf) -> bool:
    """Numbers, choices and yes or no. A comma in a text or a list belongs to the text or the list."""
    return leaf.type is not list and (leaf.type is not str or leaf.choices is not None)


def combinations(settings: Sequence[str]) -> list[Combination]:
    """Every combination of settings such as "lora.rank=8,16"; where none has several values, one with the settings as they are.

    What a value may be is for whoever builds a config from it. StudioError when there are more than MOST_RUNS.
    """
    known = {leaf.path: leaf for leaf in fields.leaves(TrainConfig())}
    axes = [_values(known.get(setting.partition("=")[0].strip()), setting) for setting in settings]
    count = 1
    for values in axes:
        count *= len(values)
    if count > MOST_RUNS:
        raise StudioError(f"These values make {count} runs, and {MOST_RUNS} can be queued at once; leave some out.")
    varied = [len(values) > 1 for values in axes]
    found = []
    for chosen in itertools.product(*axes):
        words = ", ".join(setting_label(each) for each, several in zip(chosen, varied) if several)
        found.append(Combination(chosen, words))
    return found


def _values(leaf: Leaf | None, setting: str) -> tuple[str, ...]:
    """One setting as often as it has values. A setting that is not known is left as it is: reading it says so."""
    path, _, text = setting.partition("=")
    if leaf is None or not is_sweepable(leaf) or "," not in text:
        return (setting,)
    values = dict.fromkeys(value.strip() for value in text.split(",") if value.strip())
    return tuple(f"{leaf.path}={value}" for value in values) or (f"{path}=",)


def strip_settings(title: str, settings: Sequence[str]) -> str:
    """A title less what it says of these settings, so that a copy of "Ink, rank 8" with another rank is not called by both."""
    names = tuple(setting_label(f"{setting.partition('=')[0]}=") + " " for setting in settings)
    first, *rest = title.split(", ")
    return ", ".join([first, *(part for part in rest if not part.startswith(names))])


def setting_label(setting: str) -> str:
    """ "lora.rank=8" -> "rank 8"."""
    path, _, value = setting.partition("=")
    return f"{path.strip().rpartition('.')[2].replace('_', ' ')} {value.strip()}".strip()
