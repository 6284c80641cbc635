"""The list of LoRAs on the Generate tab under people's hands: weights, switches, taking out and putting back, trigger words, another base."""

import random
from collections.abc import Callable

import gradio as gr

from studio.datasets.trigger_words import has_word, remove_word
from studio.families import bases
from studio.ui.components import lora_list
from studio.ui.components.html import notice
from studio.ui.studio import QUIET, Studio
from studio.ui.tabs.generate_base import numbers
from studio.ui.tabs.generate_bench import Bench


def show_rows(rows: list[dict], prompt: str) -> tuple[list[dict], str, str]:
    """What `Bench.listed` shows."""
    return rows, lora_list.show(rows), lora_list.chips(rows, prompt)


def wire_rows(studio: Studio, bench: Bench, redraw: Callable) -> None:
    """Each change is drawn at once."""
    stack, rows, prompt, by = bench.stack, bench.rows, bench.prompt, bench.drawer
    removed = gr.State(None)

    def weigh(rows, event: gr.EventData):
        rows = [r | {"weight": round(float(event.value), 2)} if i == int(event.index) else r for i, r in enumerate(rows)]
        return rows, lora_list.show(rows)

    def toggle(rows, prompt, event: gr.EventData):
        return show_rows([r | {"on": bool(event.value)} if i == int(event.index) else r for i, r in enumerate(rows)], prompt)

    def drop(rows, prompt, event: gr.EventData):
        gone = int(event.index)
        name = rows[gone]["title"]
        return *show_rows(rows[:gone] + rows[gone + 1 :], prompt), (gone, rows[gone]), gr.update(visible=True, value=f"Put {name} back")

    def put_back(rows, prompt, removed, base, revision, request: gr.Request):
        place, row = removed
        rows = lora_list.fitted(studio.workspace(request), [*rows[:place], row, *rows[place:]], base, revision)
        return *show_rows(rows, prompt), None, gr.update(visible=False)

    redraw(stack.weigh(weigh, rows, [rows, stack], **QUIET))
    redraw(stack.toggle(toggle, [rows, prompt], bench.listed, **QUIET))
    redraw(stack.drop(drop, [rows, prompt], [*bench.listed, removed, bench.undo], **QUIET))
    redraw(bench.undo.click(put_back, [rows, prompt, removed, by.base, by.revision], [*bench.listed, removed, bench.undo], **QUIET))
    redraw(bench.dice.click(lambda: random.randrange(2**31), None, bench.seed, **QUIET))


def wire_words(bench: Bench) -> None:
    def insert(prompt, rows, event: gr.EventData):
        """A trigger word goes to the front, where models listen most; a second click takes it out again."""
        prompt = remove_word(prompt, event.word) if has_word(prompt, event.word) else f"{event.word} {prompt}".strip()
        return prompt, lora_list.chips(rows, prompt)

    bench.words.insert(insert, [bench.prompt, bench.rows], [bench.prompt, bench.words], **QUIET)


def wire_base(studio: Studio, bench: Bench) -> None:
    """Nothing is fetched or drawn before Draw is pressed."""
    rows, prompt, by = bench.rows, bench.prompt, bench.drawer

    def draw_with(base, rows, prompt, touched, request: gr.Request):
        """Another base by hand: its newest version, its numbers, and the LoRAs that it takes."""
        known, rows = bases.get_base(base), lora_list.fitted(studio.workspace(request), rows, base)
        told = f"{known.title} draws from now on. Press Draw{'' if known.is_local else ' to fetch it'}." if known.base_model else ""
        return *show_rows(rows, prompt), None, *numbers(base, None, touched), notice(told), ""

    after_base = [*bench.listed, by.revision, by.steps, by.guidance, bench.said, bench.news]
    by.base.input(draw_with, [by.base, rows, prompt, by.touched], after_base, **QUIET)

    def switch(rows, prompt, touched, request: gr.Request, event: gr.EventData):
        """From a LoRA that does not fit to a base that it does."""
        return *draw_with(event.base, rows, prompt, touched, request), event.base

    bench.stack.switch(switch, [rows, prompt, by.touched], [*after_base, by.base], **QUIET)
