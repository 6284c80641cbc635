"""Registries of choices: entries that the config, the form, the importers, the tables and the tests walk."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, TypeVar

from pydantic import AfterValidator, GetCoreSchemaHandler

from studio.core.errors import StudioError


@dataclass(frozen=True, kw_only=True)
class Entry:
    """What every choice states about itself."""

    name: str
    """Its value in configs. Runs keep it, so it never changes."""
    title: str
    """Its name in prose, as its authors write it."""
    help: str
    """One sentence for the form, after its name and a colon."""
    source: str
    """Where it was published, for the documents."""
    names: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    """Trainer -> what its settings call it, in lower case, without a module."""


NOT_A_SETTING = "not a setting"
"""Annotation of a config field that the studio keeps itself: it has no widget, help or place in tables."""

Kind = TypeVar("Kind", bound=Entry)


@dataclass(frozen=True)
class OneOf:
    """Annotation of a config field whose value names an entry. The registry is read when a value is checked, so an entry is all it takes."""

    entries: Callable[[], Sequence[Entry]]

    def __get_pydantic_core_schema__(self, source: Any, handler: GetCoreSchemaHandler) -> Any:
        return AfterValidator(self.check).__get_pydantic_core_schema__(source, handler)

    def check(self, value: str) -> str:
        if value not in self.names:
            raise ValueError(f"The studio has {', '.join(self.names)}")
        return value

    @property
    def names(self) -> tuple[str, ...]:
        return tuple(entry.name for entry in self.entries())


def find(entries: Sequence[Kind], name: str) -> Kind:
    """The entry of this name; StudioError with the names there are."""
    for entry in entries:
        if entry.name == name:
            return entry
    raise StudioError(f"Unknown choice {name!r}; the studio has {', '.join(entry.name for entry in entries)}.")


def described(lead: str, entries: Sequence[Entry]) -> str:
    """Help text of a field: what it decides, then every choice in a sentence."""
    return " ".join([lead, *(f"{entry.name}: {entry.help}" for entry in entries)])


def called(entries: Sequence[Kind], trainer: str, name: str) -> list[Kind]:
    """The entries that another trainer's settings call `name`."""
    return [entry for entry in entries if name.lower() in entry.names.get(trainer, ())]
