"""Form fields that a browser keeps as drafts: their ids on the page, and their values as the browser reads them from it.

static/js/forms.js keeps what differs from the values that the page opened with. A radio button or dropdown shows a label or a text, so its
value is looked up among the choices. Consent and confirmation are never kept: they are given anew.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import gradio as gr

from studio.core.workspace import slug

Choices = Sequence[tuple[str, Any]]


@dataclass(frozen=True)
class DraftedForm:
    """`fields` by the names under which their drafts are kept."""

    name: str
    fields: dict[str, gr.components.Component]

    def __post_init__(self) -> None:
        for name, field in self.fields.items():
            field.elem_id = field.elem_id or f"{self.name}-{slug(name)}"

    @property
    def ids(self) -> dict[str, str]:
        return {name: field.elem_id for name, field in self.fields.items()}

    def values(self, draft: dict[str, Any], choices: dict[str, Choices] | None = None) -> dict[str, Any]:
        """The values of a draft by name; those that their field no longer offers are left out. `choices` replace those of a field."""
        found = {}
        for name in self.fields.keys() & draft.keys():
            try:
                found[name] = read_value(self.fields[name], draft[name], (choices or {}).get(name))
            except ValueError:
                continue
        return found


def read_value(field: gr.components.Component, shown: Any, choices: Choices | None = None) -> Any:
    """The value of a field for what the page shows; ValueError if the field does not offer it."""
    if isinstance(field, gr.Checkbox):
        return shown is True
    if isinstance(field, (gr.Radio, gr.Dropdown)):
        return _find_choice(field, str(shown), field.choices if choices is None else choices)
    if isinstance(field, (gr.Number, gr.Slider)):
        return _read_number(str(shown), whole=isinstance(field, gr.Number) and field.precision == 0)
    return str(shown)


def _find_choice(field: gr.Radio | gr.Dropdown, shown: str, choices: Choices) -> Any:
    """A label may since have lost its details in parentheses, as the size of a base that is downloaded now."""
    known: list[dict[str, Any]] = [dict(choices), {str(value): value for _, value in choices}]
    known.append({label.partition(" (")[0]: value for label, value in choices})
    for spelled, found in ((shown, known[0]), (shown, known[1]), (shown.partition(" (")[0], known[2])):
        if spelled in found:
            return found[spelled]
    if isinstance(field, gr.Dropdown) and field.allow_custom_value:
        return shown
    raise ValueError(shown)


def _read_number(shown: str, whole: bool) -> float | None:
    if not shown.strip():
        return None
    number = float(shown)
    if number != number or number in (float("inf"), float("-inf")):
        raise ValueError(shown)
    return int(number) if whole and number.is_integer() else number
