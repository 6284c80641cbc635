"""Dataset, base and goal of the Train form as cards. The dropdowns hold the values: choosing a card does what choosing in the dropdown does."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import gradio as gr

from studio.config import memory_overlays
from studio.ui.components import setup_cards
from studio.ui.components.html import panel
from studio.ui.studio import QUIET, Studio
from studio.ui.tabs.train_form import TrainForm


@dataclass(frozen=True)
class SetupCards:
    """Panels whose event `choose` carries the value of the chosen card."""

    dataset: gr.HTML
    base: gr.HTML
    goal: gr.HTML

    @property
    def outputs(self) -> list[gr.HTML]:
        return [self.dataset, self.base, self.goal]


def place_cards(name: str) -> gr.HTML:
    return panel("", ("choose",), elem_id=f"{name}-cards")


def wire_cards(studio: Studio, form: TrainForm, cards: SetupCards) -> dict[str, Any]:
    """Show the cards whenever the form is filled. Returns the arguments of an event that shows them too, when the page or the tab is opened."""

    def show_cards(dataset_id: str | None, base_model: str | None, preset: str | None, memory: str | None, request: gr.Request) -> tuple:
        workspace, base_model = studio.workspace(request), (base_model or "").strip()
        gpu = memory_overlays.get(memory).gigabytes if memory else studio.gpu_gigabytes
        return (
            setup_cards.show_datasets(workspace, dataset_id),
            setup_cards.show_bases(workspace, base_model, gpu),
            setup_cards.show_goals(workspace, dataset_id, base_model, preset),
        )

    shown: dict[str, Any] = {"fn": show_cards, "inputs": [form.dataset, form.base, form.preset, form.memory], "outputs": cards.outputs, **QUIET}
    gr.on([each.change for each in (form.filled, form.preset, form.memory)], **shown)
    return shown


def wire_choice(cards: gr.HTML, field: gr.Dropdown, handler: Callable[..., dict], inputs: list, outputs: list) -> None:
    """Choosing a card sets `field` and runs its handler, whose second input is the value of the field."""

    def choose(event: gr.EventData, dataset_id: str, _: str | None, memory: str, request: gr.Request, filled_with: str | None, *values: Any) -> dict:
        return {field: event.value} | handler(dataset_id, event.value, memory, request, filled_with, *values)

    cards.choose(choose, inputs, outputs, **QUIET)
