"""The Generate tab: the same image by the base model alone and with a stack of LoRAs, side by side."""

from dataclasses import dataclass
from typing import Any

import gradio as gr

from studio.ui.components import generation
from studio.ui.form_drafts import DraftedForm
from studio.ui.studio import QUIET, Studio
from studio.ui.tabs.generate_history import wire_history
from studio.ui.tabs.generate_images import build_generation
from studio.ui.tabs.generate_init import wire_init
from studio.ui.tabs.generate_restore import wire_adding, wire_restoring
from studio.ui.tabs.generate_rows import wire_base, wire_rows, wire_trigger_words
from studio.ui.tabs.generate_workbench import Workbench, build_workbench

TITLE = "Generate"


@dataclass(frozen=True)
class Generate:
    """The components that the page refreshes: its introduction, the history, what was removed from it, the owner's LoRAs, the removed ones and the
    two dropdowns; and those that an address or a draft fills."""

    head: gr.HTML
    strip: gr.HTML
    removed: gr.HTML
    own: gr.HTML
    removed_loras: gr.HTML
    choices: gr.Dropdown
    base: gr.Dropdown
    generate: dict[str, Any]
    """The arguments of the generation event; `load` uses them where no first image ships."""
    samples: gr.HTML
    workbench: Workbench
    drafted: DraftedForm

    @property
    def restored(self) -> list[gr.components.Component]:
        """The components of `restored_image`."""
        return [*self.workbench.restored, self.workbench.base_image]


def build(studio: Studio, rooms: gr.Tabs, requested: gr.State) -> Generate:
    """Lay out the tab and connect its handlers. `requested` holds a StackRequest that any tab may write."""
    workbench = build_workbench(studio, generation.first_recipe(), requested)
    images = build_generation(studio, workbench)
    wire_rows(studio, workbench, images.regenerate)
    wire_trigger_words(workbench)
    wire_init(studio, workbench, rooms, images.regenerate)
    wire_history(studio, workbench, rooms)
    wire_restoring(studio, workbench, images.regenerate)
    wire_adding(studio, workbench, requested, images.regenerate)
    wire_base(studio, workbench)
    workbench.make_own.click(lambda: gr.Tabs(selected="dataset"), None, rooms, **QUIET)
    return Generate(
        workbench.head,
        workbench.strip,
        workbench.removed,
        workbench.own,
        workbench.removed_loras,
        workbench.choices,
        workbench.settings.base,
        images.event,
        workbench.samples,
        workbench,
        workbench.drafted,
    )
