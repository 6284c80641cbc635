"""Where settings of other trainers come in: each of them ends up taken, under its name here, or left, with the reason."""

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


class Unfit(ValueError):
    """A value that cannot be taken; the text says why."""


@dataclass(frozen=True)
class Term:
    """What a foreign setting is called here, and how its value is read; `read` raises Unfit."""

    path: str
    read: Callable[[Any], Any]


@dataclass(frozen=True)
class Taken:
    name: str
    value: str
    path: str


@dataclass(frozen=True)
class Left:
    """A setting that was not taken. `matters`: without it something else may be learnt."""

    name: str
    value: str
    why: str
    matters: bool = True

    def __str__(self) -> str:
        return f"{self.name} = {self.value}: {self.why}"


@dataclass(frozen=True)
class Imported:
    """Settings found in a file: `values` by their path here, and an account of every setting of the file."""

    source: str
    """Whose file it is, in words."""
    values: dict[str, Any]
    taken: list[Taken] = field(default_factory=list)
    left: list[Left] = field(default_factory=list)


class Border:
    """Foreign settings by name; each of them ends up taken or left."""

    def __init__(self, settings: Mapping[str, Any]):
        self.settings = dict(settings)
        self.values: dict[str, Any] = {}
        self.taken: list[Taken] = []
        self.left: list[Left] = []
        self._done: set[str] = set()

    def get(self, name: str, default: Any = None) -> Any:
        value = self.settings.get(name)
        return default if value is None else value

    def said(self, name: str) -> bool:
        """Whether the file gives this setting a value, and it is not dealt with yet."""
        return self.settings.get(name) is not None and name not in self._done

    def take(self, name: str, path: str, value: Any, shown: Any = None) -> bool:
        """Set one of our settings from a foreign one. A value that is not allowed here is left, with the reason."""
        self._done.add(name)
        try:
            fields.replace(TrainConfig(), {path: value})
        except StudioError as error:
            self.leave(name, str(error))
            return False
        self.values[path] = value
        self.taken.append(Taken(name, short(self.settings.get(name) if shown is None else shown), path))
        return True

    def leave(self, name: str, why: str, matters: bool = True) -> None:
        self._done.add(name)
        self.left.append(Left(name, short(self.settings.get(name)), why, matters))

    def used(self, *names: str) -> None:
        """These went into another setting, or only say again what another one says."""
        self._done.update(names)

    def read(self, name: str, reader: Callable[[Any], Any], default: Any = None) -> Any:
        """The value as `reader` reads it; one that cannot be read is left and the default returned."""
        if not self.said(name):
            return default
        try:
            return reader(self.settings[name])
        except Unfit as error:
            self.leave(name, str(error))
            return default

    def translate(self, table: Mapping[str, Term]) -> None:
        """Everything that has one name there and one here."""
        for name, term in table.items():
            if self.said(name):
                value = self.read(name, term.read)
                if name not in self._done:
                    self.take(name, term.path, value)

    def assume(self, defaults: Mapping[str, tuple[str, Any]]) -> None:
        """What the other trainer does where its file says nothing: name -> (path here, value)."""
        for name, (path, value) in defaults.items():
            if path not in self.values and not any(left.name == name for left in self.left):
                self.values[path] = value
                self.taken.append(Taken(name, f"{short(value)}, its default there", path))

    def finish(self, source: str, unsupported: Mapping[str, str], needless: Mapping[str, str], usual: Mapping[str, Any]) -> Imported:
        """Name whatever is still open: what the studio cannot do (`usual` is what it does instead), what it does by itself, what nobody knows."""
        for name in [name for name in self.settings if self.said(name)]:
            value = self.settings[name]
            if name in unsupported:
                same = value in (False, 0, "", [], {}) or (name in usual and value == usual[name])
                self.leave(name, OFF if same else unsupported[name], matters=not same)
            elif name in needless:
                self.leave(name, needless[name], matters=False)
            elif "[" in name:
                self.leave(name, "only the settings of the first one are taken.")
            else:
                self.leave(name, "unknown here.")
        return Imported(source, self.values, self.taken, self.left)

    def take_base(self, name: str, family: str | None, aliases: Mapping[str, str]) -> None:
        """A Hub id is taken; a file or folder lies on the computer the file was written on, so the family's own base stands in for it."""
        asked = self.read(name, word, "")
        known = families.offer(aliases.get(asked, asked))
        if known:
            self.take(name, "model.base_model", known.id)
        elif HUB_NAME.fullmatch(asked) and not asked.lower().endswith(WEIGHTS):
            self.take(name, "model.base_model", asked)
        elif asked:
            self.leave(name, "a file or folder on the computer that this was written on; choose the base here.")
        if family:
            self.values["model.family"] = family


def short(value: Any, longest: int = SHOWN) -> str:
    text = "true" if value is True else "false" if value is False else "nothing" if value is None else str(value)
    text = " ".join(text.split())
    return text if len(text) <= longest else f"{text[: longest - 1]}…"


def number(value: Any) -> float:
    """Also of text: YAML reads 1e-4 as a word."""
    if isinstance(value, str):
        try:
            value = float(value)
        except ValueError:
            raise Unfit(f"{short(value)!r} is not a number.") from None
    if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
        raise Unfit("a number is needed.")
    return value


def whole(value: Any) -> int:
    found = number(value)
    if found != int(found):
        raise Unfit("a whole number is needed.")
    return int(found)


def yes(value: Any) -> bool:
    if isinstance(value, str) and value.lower() in ("true", "false"):
        return value.lower() == "true"
    if not isinstance(value, bool):
        raise Unfit("true or false is needed.")
    return value


def word(value: Any) -> str:
    if not isinstance(value, str):
        raise Unfit("a text is needed.")
    return value.strip()


def optional(reader: Callable[[Any], Any]) -> Callable[[Any], Any]:
    """0 switches off there what is empty when it is off here."""
    return lambda value: reader(value) or None


def one_of(choices: Mapping[str, Any], otherwise: str = "") -> Callable[[Any], Any]:
    """Words there -> a value here, whatever their case; `otherwise` says what becomes of other words."""

    def read(value: Any) -> Any:
        name = word(value).lower()
        if name not in choices:
            raise Unfit(otherwise or f"the studio has no counterpart; it knows {', '.join(choices)}.")
        return choices[name]

    return read


def pairs(value: Any) -> dict[str, str]:
    """["a=1", "b = 2"] or "a=1 b=2" -> {"a": "1", "b": "2"}."""
    entries = value.split() if isinstance(value, str) else value
    if not isinstance(entries, list) or not all(isinstance(entry, str) and "=" in entry for entry in entries):
        raise Unfit('a list such as ["name=value"] is needed.')
    return {name.strip(): text.strip().strip("'\"") for name, _, text in (entry.partition("=") for entry in entries)}


def literal(text: str) -> Any:
    """An argument as the Python value that it spells: true or false, nothing, a number, else the text itself."""
    known = {"true": True, "false": False, "none": None}
    if text.lower() in known:
        return known[text.lower()]
    try:
        return number(text)
    except Unfit:
        return text
