"""A config as a flat list of leaves ("lora.rank"), for the form, the model card, the docs and overrides."""

import types
from dataclasses import dataclass
from typing import Any, Literal, TypeVar, Union, get_args, get_origin

import annotated_types
from pydantic import BaseModel, ValidationError
from pydantic.fields import FieldInfo

from studio.config.registry import NOT_A_SETTING, OneOf
from studio.core.errors import StudioError

Model = TypeVar("Model", bound=BaseModel)

PLAIN_TYPES = ("greater_than", "less_than", "int_", "float_", "bool_", "literal_error", "finite_number", "missing", "multiple_of")
"""Beginnings of the pydantic errors that mean: not of the type or outside the bounds. `allowed` says it in plain words."""


class InvalidSettings(StudioError):
    """Settings that do not fit. `problems`: path of a setting -> its value and what is allowed; what concerns several settings is only in the
    message."""

    def __init__(self, message: str, problems: dict[str, str]):
        super().__init__(message)
        self.problems = problems


@dataclass(frozen=True)
class Leaf:
    """One parameter: path, label, help text, type, default and bounds."""

    path: str
    title: str
    help: str
    type: type
    optional: bool
    default: Any
    choices: tuple | None = None
    ge: float | None = None
    gt: float | None = None
    le: float | None = None
    lt: float | None = None
    multiple_of: float | None = None


def leaves(model: BaseModel) -> list[Leaf]:
    """Every parameter of every section, in order; not what the studio keeps there itself."""
    found = []
    for section, value in model:
        if not isinstance(value, BaseModel):
            continue
        for name, field in type(value).model_fields.items():
            if NOT_A_SETTING in field.metadata:
                continue
            kind, optional, choices = _unwrap(field.annotation)
            choices = next((limit.names for limit in field.metadata if isinstance(limit, OneOf)), choices)
            found.append(
                Leaf(
                    path=f"{section}.{name}",
                    title=field.title or name,
                    help=field.description or "",
                    type=kind,
                    optional=optional,
                    default=field.get_default(call_default_factory=True),
                    choices=choices,
                    **bounds(field),
                )
            )
    return found


def bounds(field: FieldInfo) -> dict[str, Any]:
    """The bounds of a number: those of ge, gt, le, lt and multiple_of that it has."""
    found: dict[str, Any] = {}
    for limit in field.metadata:
        if isinstance(limit, annotated_types.Ge):
            found["ge"] = limit.ge
        elif isinstance(limit, annotated_types.Gt):
            found["gt"] = limit.gt
        elif isinstance(limit, annotated_types.Le):
            found["le"] = limit.le
        elif isinstance(limit, annotated_types.Lt):
            found["lt"] = limit.lt
        elif isinstance(limit, annotated_types.MultipleOf):
            found["multiple_of"] = limit.multiple_of
    return found


def get(model: BaseModel, path: str) -> Any:
    """The value at a dotted path."""
    section, _, name = path.partition(".")
    try:
        return model.model_dump()[section][name]
    except (KeyError, TypeError):
        raise StudioError(f"Unknown setting {path!r}; known settings: {', '.join(leaf.path for leaf in leaves(model))}.") from None


def flatten(tables: dict[str, dict[str, Any]]) -> dict[str, Any]:
    """Sections with their fields as dotted paths: {"lora": {"rank": 8}} -> {"lora.rank": 8}."""
    return {f"{section}.{name}": value for section, table in tables.items() for name, value in table.items()}


def unflatten(values: dict[str, Any]) -> dict[str, dict[str, Any]]:
    """Dotted paths as sections with fields: {"lora.rank": 8} -> {"lora": {"rank": 8}}."""
    tables: dict[str, dict[str, Any]] = {}
    for path, value in values.items():
        section, _, name = path.partition(".")
        tables.setdefault(section, {})[name] = value
    return tables


def replace(model: Model, values: dict[str, Any]) -> Model:
    """A copy with the values at these dotted paths replaced, validated as a whole. A new base resets the family, unless that is given too."""
    tree = model.model_dump()
    if "model.base_model" in values:
        values = {"model.family": "", **values}
    for path, value in values.items():
        get(model, path)
        section, _, name = path.partition(".")
        tree[section][name] = value
    try:
        return type(model).model_validate(tree)
    except ValidationError as error:
        raise InvalidSettings(explain(error, model), problems(error, model)) from None


def explain(error: ValidationError, model: BaseModel) -> str:
    """A pydantic error as a message: which setting, its value, what is allowed."""
    known = {leaf.path: leaf for leaf in leaves(model)}
    return " ".join(sentence for _, sentence in _explained(error, known))


def problems(error: ValidationError, model: BaseModel) -> dict[str, str]:
    """Path of a setting -> its name, its value and what is allowed."""
    known = {leaf.path: leaf for leaf in leaves(model)}
    return {path: sentence for path, sentence in _explained(error, known) if path in known}


def allowed(leaf: Leaf) -> str:
    """The values that a setting may have, in words."""
    if leaf.choices:
        return f"one of {', '.join(str(each) for each in leaf.choices)}"
    if leaf.type is bool:
        return "yes or no"
    if leaf.type not in (int, float):
        return "text"
    number = "a whole number" if leaf.type is int else "a number"
    if leaf.multiple_of is not None:
        number = f"a multiple of {_figure(leaf.multiple_of)}"
    if leaf.ge is not None and leaf.le is not None:
        return f"{number} from {_figure(leaf.ge)} to {_figure(leaf.le)}"
    limits = [
        *([f"of at least {_figure(leaf.ge)}"] if leaf.ge is not None else []),
        *([f"above {_figure(leaf.gt)}"] if leaf.gt is not None else []),
        *([f"at most {_figure(leaf.le)}"] if leaf.le is not None else []),
        *([f"below {_figure(leaf.lt)}"] if leaf.lt is not None else []),
    ]
    return " ".join([number, " and ".join(limits)]).strip()


def _explained(error: ValidationError, known: dict[str, Leaf]) -> list[tuple[str, str]]:
    found = []
    for problem in error.errors():
        path = ".".join(str(part) for part in problem["loc"][:2])
        leaf, value = known.get(path), problem["input"]
        if problem["type"] == "extra_forbidden":
            found.append(("", f"Unknown setting {path!r}; known settings: {', '.join(known)}."))
        elif leaf and problem["type"].startswith(PLAIN_TYPES):
            shown = " is empty" if value in (None, "") else f": {value!r} does not fit"
            found.append((path, f"{leaf.title}{shown}. Enter {allowed(leaf)}{', or leave it empty' if leaf.optional else ''}."))
        else:
            shown = f"{leaf.title}: {value!r} does not fit. " if leaf else ""
            found.append((path, f"{shown}{problem['msg'].removeprefix('Value error, ')}."))
    return found


def _figure(number: float) -> str:
    return f"{number:,}" if number == int(number) else f"{number:g}"


def _unwrap(annotation) -> tuple[type, bool, tuple | None]:
    """(type, whether it is optional, choices) of an annotation such as `Literal["a", "b"] | None`."""
    optional = False
    if get_origin(annotation) in (Union, types.UnionType):
        rest = [part for part in get_args(annotation) if part is not type(None)]
        optional = len(rest) < len(get_args(annotation))
        annotation = rest[0]
    if get_origin(annotation) is Literal:
        choices = get_args(annotation)
        return type(choices[0]), optional, choices
    return get_origin(annotation) or annotation, optional, None
