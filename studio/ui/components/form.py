"""Form for any pydantic config: one widget per leaf, and a validated config from the widgets' values.

Labels, help and bounds come from the config's fields; a tab only decides where a widget stands and how it looks.
"""

from collections.abc import Sequence
from typing import Any, Generic, TypeVar

import gradio as gr
from pydantic import BaseModel

from studio.config import fields
from studio.config.fields import Leaf
from studio.ui.components.html import heading, html

GROUPS = {
    "model": "Base model",
    "dataset": "Images",
    "lora": "LoRA",
    "training": "Training",
    "prior": "Regularisation images",
    "validation": "Validation images",
    "samples": "Sample images",
    "saving": "Checkpoints",
    "runtime": "Hardware",
}
"""Section -> title of its group."""

UNSET = ("automatic", "")
"""First choice of a list whose setting is optional."""

Config = TypeVar("Config", bound=BaseModel)


class Form(Generic[Config]):
    """Widgets for one config, in the order they were placed."""

    def __init__(self, config: Config):
        self.config = config
        self.leaves = {leaf.path: leaf for leaf in fields.leaves(config)}
        self.widgets: dict[str, gr.components.Component] = {}

    def place(self, path: str, component: type | None = None, **options: Any) -> gr.components.Component:
        """Place the widget of one setting here. `component` replaces the default class; `options` are its arguments (choices, lines, info)."""
        leaf = self.leaves[path]
        default, limits = _widget(leaf)
        arguments = {
            "elem_id": f"setting-{path.replace('.', '-')}",
            "value": to_widget(leaf, fields.get(self.config, path)),
            "label": leaf.title,
            "info": leaf.help,
            **(limits if component in (None, default) else {}),
            **options,
        }
        self.widgets[path] = (component or default)(**arguments)
        return self.widgets[path]

    def exclude(self, *paths: str) -> None:
        """Leave out settings that are chosen elsewhere on the page."""
        for path in paths:
            del self.leaves[path]

    def place_rest(self) -> None:
        """Place every remaining setting, in one titled group per section."""
        rest = [leaf for path, leaf in self.leaves.items() if path not in self.widgets]
        for section, title in GROUPS.items():
            group = [leaf for leaf in rest if leaf.path.startswith(f"{section}.")]
            if group:
                with gr.Column(elem_classes="bare group"):
                    html(heading(title))
                    with gr.Row(elem_classes="settings"):
                        for leaf in group:
                            self.place(leaf.path, min_width=230)

    @property
    def inputs(self) -> list[gr.components.Component]:
        return list(self.widgets.values())

    def read(self, values: list[Any], **extra: Any) -> Config:
        """The validated config of these widget values; InvalidSettings names each field that does not fit. `extra`: section__field=value."""
        found = {path: from_widget(self.leaves[path], value) for path, value in self.by_path(values).items()}
        found |= {path.replace("__", "."): value for path, value in extra.items()}
        return fields.replace(self.config, found)

    def by_path(self, values: Sequence[Any]) -> dict[str, Any]:
        """Path of each setting -> the value of its widget."""
        return dict(zip(self.widgets, values, strict=True))

    def write(self, config: BaseModel) -> list[Any]:
        """Widget values for this config, in the order of `inputs`."""
        return [self.widget_value(path, fields.get(config, path)) for path in self.widgets]

    def widget_value(self, path: str, value: Any) -> Any:
        """What the widget of one setting shows for a value."""
        return to_widget(self.leaves[path], value)


def _widget(leaf: Leaf) -> tuple[type, dict[str, Any]]:
    if leaf.choices:
        return gr.Dropdown, {"choices": ([UNSET] if leaf.optional else []) + [(str(c), c) for c in leaf.choices]}
    if leaf.type is bool and leaf.optional:
        return gr.Dropdown, {"choices": [UNSET, ("yes", True), ("no", False)]}
    if leaf.type is bool:
        return gr.Checkbox, {}
    # Without the bounds: a gr.Number that has them raises an error before the handler, which names no field.
    if leaf.type is int:
        return gr.Number, {}
    if leaf.type is float:
        return gr.Number, {"step": 0.00001 if leaf.le == 1 else 0.1}
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
    """A line of a text box is an entry of a list; an empty optional field is None."""
    if leaf.type is list:
        lines = [line.strip() for line in (value or "").splitlines() if line.strip()]
        return lines or (None if leaf.optional else [])
    if leaf.optional and value in ("", None):
        return None
    if leaf.type is int and isinstance(value, float) and value.is_integer():
        return int(value)
    return value
