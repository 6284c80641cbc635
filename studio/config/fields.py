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
    """The bounds of a number: those of ge, gt and le that it has."""
    found: dict[str, Any] = {}
    for limit in field.metadata:
        if isinstance(limit, annotated_types.Ge):
            found["ge"] = limit.ge
        elif isinstance(limit, annotated_types.Gt):
            found["gt"] = limit.gt
        elif isinstance(limit, annotated_types.Le):
            found["le"] = limit.le
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
        raise StudioError(explain(error, model)) from None


def explain(error: ValidationError, model: BaseModel) -> str:
    """A pydantic error as a message: which setting, its value, what is allowed."""
    known = {leaf.path: leaf for leaf in leaves(model)}
    messages = []
    for problem in error.errors():
        path = ".".join(str(part) for part in problem["loc"])
        if problem["type"] == "extra_forbidden":
            messages.append(f"Unknown setting {path!r}; known settings: {', '.join(known)}.")
        else:
            title = known[path].title if path in known else path
            messages.append(f"{title}: {problem['input']!r} does not fit. {problem['msg'].removeprefix('Value error, ')}.")
    return " ".join(messages)


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
