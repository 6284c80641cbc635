"""Events of the LoRA list on the Generate tab: weights, switches, removing and restoring, trigger words, another base."""

import random

import gradio as gr

from studio.datasets.trigger_words import has_word, remove_word
from studio.families import bases
from studio.ui.components import lora_list
from studio.ui.components.html import notice
from studio.ui.components.lora_list import Row
from studio.ui.studio import QUIET, Studio
from studio.ui.tabs.generate_base import sampling_defaults
from studio.ui.tabs.generate_images import Regenerate
from studio.ui.tabs.generate_workbench import Workbench


def show_rows(rows: list[Row], prompt: str) -> tuple[list[Row], str, str]:
    """The values of `Workbench.listed`."""
    return rows, lora_list.show(rows), lora_list.chips(rows, prompt)


def wire_rows(studio: Studio, workbench: Workbench, regenerate: Regenerate) -> None:
    """Each change generates at once."""
    stack, rows, prompt, settings = workbench.stack, workbench.rows, workbench.prompt, workbench.settings
    removed = gr.State(None)

    def weigh(rows: list[Row], event: gr.EventData) -> tuple[list[Row], str]:
        index, weight = int(event.index), round(float(event.value), 2)
        rows = [r | {"weight": weight} if i == index else r for i, r in enumerate(rows)]
        return rows, lora_list.show(rows)

    def toggle(rows: list[Row], prompt: str, event: gr.EventData) -> tuple[list[Row], str, str]:
        return show_rows([r | {"on": bool(event.value)} if i == int(event.index) else r for i, r in enumerate(rows)], prompt)

    def drop(rows: list[Row], prompt: str, event: gr.EventData) -> tuple:
        index = int(event.index)
        name = rows[index]["title"]
        return *show_rows(rows[:index] + rows[index + 1 :], prompt), (index, rows[index]), gr.update(visible=True, value=f"Put {name} back")

    def put_back(rows: list[Row], prompt: str, removed: tuple[int, Row], base: str, revision: str | None, request: gr.Request) -> tuple:
        index, row = removed
        rows = lora_list.fitted(studio.workspace(request), [*rows[:index], row, *rows[index:]], base, revision)
        return *show_rows(rows, prompt), None, gr.update(visible=False)

    after_removing = [*workbench.listed, removed, workbench.undo]
    regenerate(stack.weigh(weigh, rows, [rows, stack], **QUIET))
    regenerate(stack.toggle(toggle, [rows, prompt], workbench.listed, **QUIET))
    regenerate(stack.drop(drop, [rows, prompt], after_removing, **QUIET))
    regenerate(workbench.undo.click(put_back, [rows, prompt, removed, settings.base, settings.revision], after_removing, **QUIET))
    regenerate(workbench.new_seed.click(lambda: random.randrange(2**31), None, workbench.seed, **QUIET))


def wire_trigger_words(workbench: Workbench) -> None:
    def insert(prompt: str, rows: list[Row], event: gr.EventData) -> tuple[str, str]:
        """Put a trigger word at the front of the prompt, where models weigh it most; a second click removes it."""
        prompt = remove_word(prompt, event.word) if has_word(prompt, event.word) else f"{event.word} {prompt}".strip()
        return prompt, lora_list.chips(rows, prompt)

    workbench.trigger_words.insert(insert, [workbench.prompt, workbench.rows], [workbench.prompt, workbench.trigger_words], **QUIET)


def wire_base(studio: Studio, workbench: Workbench) -> None:
    """A change of base downloads and generates nothing before Generate is pressed."""
    rows, prompt, settings = workbench.rows, workbench.prompt, workbench.settings

    def use_base(base: str, rows: list[Row], prompt: str, touched: bool, request: gr.Request) -> tuple:
        """Another base: its newest version, its sampling settings, and the LoRAs that fit it."""
        known, rows = bases.get_base(base), lora_list.fitted(studio.workspace(request), rows, base)
        next_step = "Press Generate." if known.is_local else "Press Generate to download it."
        message = f"{known.title} is now the base model. {next_step}" if known.base_model else ""
        return *show_rows(rows, prompt), None, *sampling_defaults(base, None, touched), notice(message), ""

    outputs = [*workbench.listed, settings.revision, settings.steps, settings.guidance, workbench.message, workbench.generation_message]
    settings.base.input(use_base, [settings.base, rows, prompt, settings.touched], outputs, **QUIET)

    def switch(rows: list[Row], prompt: str, touched: bool, request: gr.Request, event: gr.EventData) -> tuple:
        """To a base that fits a LoRA which does not fit the chosen one."""
        return *use_base(event.base, rows, prompt, touched, request), event.base

    workbench.stack.switch(switch, [rows, prompt, settings.touched], [*outputs, settings.base], **QUIET)
