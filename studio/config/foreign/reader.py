"""Reader for the settings of other trainers: each setting is either applied, under its name here, or skipped, with a reason."""

import math
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from studio import families
from studio.config import fields
from studio.config.train_config import TrainConfig
from studio.core.errors import StudioError

HUB_NAME = re.compile(r"\w[\w.-]*/\w[\w.-]*")
WEIGHTS = (".safetensors", ".ckpt", ".pt", ".pth", ".bin", ".sft", ".gguf")
SHOWN = 60
OFF = "the studio does the same."


class Unsupported(ValueError):
    """A value that cannot be imported; the message says why."""


@dataclass(frozen=True)
class Target:
    """Path of the setting that a foreign one maps to, and the parser of its value, which raises Unsupported."""

    path: str
    parse: Callable[[Any], Any]


@dataclass(frozen=True)
class Applied:
    name: str
    value: str
    path: str


@dataclass(frozen=True)
class Skipped:
    """A setting that was not imported. `matters`: results may differ without it."""

    name: str
    value: str
    why: str
    matters: bool = True

    def __str__(self) -> str:
        return f"{self.name} = {self.value}: {self.why}"


@dataclass(frozen=True)
class Imported:
    """Settings imported from a file: `values` by path, and a report on every setting in the file."""

    source: str
    """Name of the program that wrote the file."""
    values: dict[str, Any]
    applied: list[Applied] = field(default_factory=list)
    skipped: list[Skipped] = field(default_factory=list)


class SettingsReader:
    """Foreign settings by name; each one is applied or skipped."""

    def __init__(self, settings: Mapping[str, Any]):
        self.settings = dict(settings)
        self.values: dict[str, Any] = {}
        self.applied: list[Applied] = []
        self.skipped: list[Skipped] = []
        self._done: set[str] = set()

    def get(self, name: str, default: Any = None) -> Any:
        value = self.settings.get(name)
        return default if value is None else value

    def has(self, name: str) -> bool:
        """Whether the file sets this and it has not been handled yet."""
        return self.settings.get(name) is not None and name not in self._done

    def set(self, name: str, path: str, value: Any, shown: Any = None) -> bool:
        """Set one of our settings from a foreign one. A value that is not allowed here is skipped, with the reason."""
        self._done.add(name)
        try:
            fields.replace(TrainConfig(), {path: value})
        except StudioError as error:
            self.skip(name, str(error))
            return False
        self.values[path] = value
        self.applied.append(Applied(name, short(self.settings.get(name) if shown is None else shown), path))
        return True

    def skip(self, name: str, why: str, matters: bool = True, shown: Any = None) -> None:
        self._done.add(name)
        self.skipped.append(Skipped(name, short(self.settings.get(name) if shown is None else shown), why, matters))

    def mark_used(self, *names: str) -> None:
        """Mark settings that were merged into another one, or that repeat another one."""
        self._done.update(names)

    def read(self, name: str, parse: Callable[[Any], Any], default: Any = None) -> Any:
        """The parsed value; a value that cannot be parsed is skipped and the default returned."""
        if not self.has(name):
            return default
        try:
            return parse(self.settings[name])
        except Unsupported as error:
            self.skip(name, str(error))
            return default

    def translate(self, table: Mapping[str, Target]) -> None:
        """Apply every setting that maps one to one."""
        for name, target in table.items():
            if self.has(name):
                value = self.read(name, target.parse)
                if name not in self._done:
                    self.set(name, target.path, value)

    def apply_defaults(self, defaults: Mapping[str, tuple[str, Any]]) -> None:
        """The other trainer's defaults for settings that the file omits: name -> (path here, value)."""
        for name, (path, value) in defaults.items():
            if path not in self.values and not any(skipped.name == name for skipped in self.skipped):
                self.values[path] = value
                self.applied.append(Applied(name, f"{short(value)}, that trainer's default", path))

    def finish(self, source: str, unsupported: Mapping[str, str], unneeded: Mapping[str, str], usual: Mapping[str, Any]) -> Imported:
        """Skip all remaining settings: unsupported ones (`usual`: the value that the studio always uses), automatic ones and unknown ones."""
        for name in [name for name in self.settings if self.has(name)]:
            value = self.settings[name]
            if name in unsupported:
                same = value in (False, 0, "", [], {}) or (name in usual and value == usual[name])
                self.skip(name, OFF if same else unsupported[name], matters=not same)
            elif name in unneeded:
                self.skip(name, unneeded[name], matters=False)
            elif "[" in name:
                self.skip(name, "only the settings of the first one are imported.")
            else:
                self.skip(name, "unknown here.")
        return Imported(source, self.values, self.applied, self.skipped)

    def set_base(self, name: str, family: str | None, aliases: Mapping[str, str]) -> None:
        """Set the base from a Hub id. A file or folder is skipped, because it is on the computer where the settings were written."""
        requested = self.read(name, text, "")
        known = families.offer(aliases.get(requested, requested))
        if known:
            self.set(name, "model.base_model", known.id)
        elif HUB_NAME.fullmatch(requested) and not requested.lower().endswith(WEIGHTS):
            self.set(name, "model.base_model", requested)
        elif requested:
            self.skip(name, "a file or folder on the computer where these settings were written; choose the base here.")
        if family:
            self.values["model.family"] = family


def short(value: Any, longest: int = SHOWN) -> str:
    shown = "true" if value is True else "false" if value is False else "nothing" if value is None else str(value)
    shown = " ".join(shown.split())
    return shown if len(shown) <= longest else f"{shown[: longest - 1]}…"


def number(value: Any) -> float:
    """Also parses a string: YAML reads 1e-4 as one."""
    if isinstance(value, str):
        try:
            value = float(value)
        except ValueError:
            raise Unsupported(f"{short(value)!r} is not a number.") from None
    if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
        raise Unsupported("it must be a number.")
    return value


def integer(value: Any) -> int:
    found = number(value)
    if found != int(found):
        raise Unsupported("it must be an integer.")
    return int(found)


def boolean(value: Any) -> bool:
    if isinstance(value, str) and value.lower() in ("true", "false"):
        return value.lower() == "true"
    if not isinstance(value, bool):
        raise Unsupported("it must be true or false.")
    return value


def text(value: Any) -> str:
    if not isinstance(value, str):
        raise Unsupported("it must be a string.")
    return value.strip()


def optional(parse: Callable[[Any], Any]) -> Callable[[Any], Any]:
    """Parser for settings where 0 means off in the other trainer and None means off here."""
    return lambda value: parse(value) or None


def one_of(choices: Mapping[str, Any], otherwise: str = "") -> Callable[[Any], Any]:
    """Parser from names, in any case, to values; `otherwise` is the message for other names."""

    def parse(value: Any) -> Any:
        name = text(value).lower()
        if name not in choices:
            raise Unsupported(otherwise or f"the studio has no counterpart; it supports {', '.join(choices)}.")
        return choices[name]

    return parse


def pairs(value: Any) -> dict[str, str]:
    """["a=1", "b = 2"] or "a=1 b=2" -> {"a": "1", "b": "2"}."""
    entries = value.split() if isinstance(value, str) else value
    if not isinstance(entries, list) or not all(isinstance(entry, str) and "=" in entry for entry in entries):
        raise Unsupported('it must be a list such as ["name=value"].')
    return {name.strip(): argument.strip().strip("'\"") for name, _, argument in (entry.partition("=") for entry in entries)}


def literal(text: str) -> Any:
    """An argument as the Python value that it spells: true or false, nothing, a number, else the text itself."""
    known = {"true": True, "false": False, "none": None}
    if text.lower() in known:
        return known[text.lower()]
    try:
        return number(text)
    except Unsupported:
        return text
