"""A form for any pydantic config: widgets from its leaves, a config back from their values. What a field is called, what it may be
and what turning it up does is written at the field; here a tab only says where it stands and how it looks.
"""

from typing import Any

import gradio as gr
from pydantic import BaseModel

from studio.config import fields
from studio.config.fields import Leaf

GROUPS = {
    "model": "Base model",
    "dataset": "Pictures",
    "lora": "What it can hold",
    "training": "Learning",
    "prior": "Regularisation pictures",
    "validation": "Pictures held back",
    "samples": "Sample pictures",
    "saving": "Safety",
    "runtime": "This machine",
}
"""Section -> what its settings change, in words."""

OPEN = ("chosen by the studio", "")
"""Of a list whose setting may be left open."""


class Form:
    """Widgets for one config, in the order they were placed."""

    def __init__(self, config: BaseModel):
        self.config = config
        self.leaves = {leaf.path: leaf for leaf in fields.leaves(config)}
        self.widgets: dict[str, gr.components.Component] = {}

    def place(self, path: str, look: type | None = None, **words) -> gr.components.Component:
        """The widget of one setting, here and now. `look` is another component class, `words` its looks (choices, lines, info)."""
        leaf = self.leaves[path]
        kind, kept = _widget(leaf)
        options = {
            "value": to_widget(leaf, fields.get(self.config, path)),
            "label": leaf.title,
            "info": leaf.help,
            **(kept if look in (None, kind) else {}),
            **words,
        }
        self.widgets[path] = (look or kind)(**options)
        return self.widgets[path]

    def leave(self, *paths: str) -> None:
        """Settings that are chosen elsewhere on the page and must not appear again."""
        for path in paths:
            del self.leaves[path]

    def place_rest(self) -> None:
        """Every setting not placed by hand, folded, in groups named by what they change."""
        rest = [leaf for path, leaf in self.leaves.items() if path not in self.widgets]
        for section, title in GROUPS.items():
            group = [leaf for leaf in rest if leaf.path.startswith(f"{section}.")]
            if group:
                with gr.Accordion(title, open=False, elem_classes="fold"), gr.Row(elem_classes="settings"):
                    for leaf in group:
                        self.place(leaf.path, min_width=230)

    @property
    def inputs(self) -> list[gr.components.Component]:
        return list(self.widgets.values())

    def read(self, values: list[Any], **also: Any) -> BaseModel:
        """The config that the widgets spell, validated once; a StudioError says which field does not fit. `also`: section__field=value."""
        found = {path: from_widget(self.leaves[path], value) for path, value in zip(self.widgets, values, strict=True)}
        found |= {path.replace("__", "."): value for path, value in also.items()}
        return fields.replace(self.config, found)

    def write(self, config: BaseModel) -> list[Any]:
        """What each widget shows for this config, in the order of `inputs`."""
        return [self.shown(path, fields.get(config, path)) for path in self.widgets]

    def shown(self, path: str, value: Any) -> Any:
        """What the widget of one setting shows for a value."""
        return to_widget(self.leaves[path], value)


def _widget(leaf: Leaf) -> tuple[type, dict]:
    if leaf.choices:
        return gr.Dropdown, {"choices": ([OPEN] if leaf.optional else []) + [(str(c), c) for c in leaf.choices]}
    if leaf.type is bool and leaf.optional:
        return gr.Dropdown, {"choices": [OPEN, ("yes", True), ("no", False)]}
    if leaf.type is bool:
        return gr.Checkbox, {}
    if leaf.type is int:
        return gr.Number, {"precision": 0, "minimum": leaf.ge, "maximum": leaf.le}
    if leaf.type is float:
        return gr.Number, {"minimum": leaf.ge, "maximum": leaf.le, "step": 0.00001 if leaf.le == 1 else 0.1}
    if leaf.type is list:
        return gr.Textbox, {"lines": 3}
    return gr.Textbox, {"max_lines": 1}


def to_widget(leaf: Leaf, value: Any) -> Any:
    if leaf.type is list:
        return "\n".join(value or [])
    if value is None:
        return "" if leaf.type in (str, bool) or leaf.choices else None
    return value


def from_widget(leaf: Leaf, value: Any) -> Any:
    """One line of a text box is one entry of a list; an empty optional field is None."""
    if leaf.type is list:
        lines = [line.strip() for line in (value or "").splitlines() if line.strip()]
        return lines or (None if leaf.optional else [])
    if leaf.optional and value in ("", None):
        return None
    if leaf.type is int and isinstance(value, float) and value.is_integer():
        return int(value)
    return value
