"""What an image that is open large can be used for: its settings, its prompt, an image of the dataset; and removal from the history."""

import gradio as gr

from studio.core.workspace import Workspace
from studio.ui.components import history, lora_list
from studio.ui.components.lora_list import Row
from studio.ui.components.removed import listing
from studio.ui.studio import QUIET, Studio, show_errors
from studio.ui.tabs.generate_workbench import Workbench

KIND = "images"


def wire_history(studio: Studio, workbench: Workbench, rooms: gr.Tabs) -> None:
    """`pick` is wired with the restoring of recipes, `add_to_dataset` in dataset_generated.py."""
    strip, removed = workbench.strip, workbench.removed

    def use_prompt(rows: list[Row], event: gr.EventData) -> tuple:
        prompt = str(event.prompt)
        return prompt, lora_list.chips(rows, prompt), gr.Tabs(selected="generate")

    def shown(workspace: Workspace) -> tuple[str, str]:
        return history.strip(workspace), listing(workspace, KIND)

    @show_errors
    def remove_image(request: gr.Request, event: gr.EventData) -> tuple[str, str]:
        workspace = studio.workspace(request)
        workspace.remove(workspace.image_path(str(event.id)))
        return shown(workspace)

    @show_errors
    def restore_image(request: gr.Request, event: gr.EventData) -> tuple[str, str]:
        workspace = studio.workspace(request)
        workspace.restore(str(event.id))
        return shown(workspace)

    strip.use_prompt(use_prompt, workbench.rows, [workbench.prompt, workbench.trigger_words, rooms], **QUIET)
    strip.remove_image(remove_image, None, [strip, removed], **QUIET)
    removed.restore(restore_image, None, [strip, removed], **QUIET)
