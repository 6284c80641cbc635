"""Small pieces of HTML. Every text that a person or a file brought in goes through `text`, so it can only ever be text."""

import functools
from collections.abc import Iterable

import gradio as gr
from gradio.events import EventListener

from studio.ui.components.templates import render

ATTACH = "studio.attach(element, trigger, server, upload)"
"""The only JavaScript in Python: what a panel says to static/js/compiled.js, which knows this very string and hands the panel to panels.js.
Gradio 6.31 gives `trigger`, by which a part of the page calls its handlers, to nothing but code in `js_on_load`."""


def html(value: str = "", **place) -> gr.HTML:
    """HTML that calls nothing."""
    return gr.HTML(value, js_on_load=None, **place)


def panel(value: str = "", events: tuple[str, ...] = (), **place) -> gr.HTML:
    """HTML whose buttons (`data-click="event"`) and inputs (`data-change="event"`) call handlers with their data attributes, and with their value
    or that of the field which `data-with` selects."""
    shown = gr.HTML(value, js_on_load=ATTACH, **place)
    for event in events:
        setattr(shown, event, functools.partial(EventListener(event).listener, shown))
    return shown


def notice(message: str, kind: str = "") -> str:
    """A sentence in a soft box; kind: "", good, warn or bad."""
    return render("parts", "notice", message, kind) if message else ""


def notices(messages: Iterable[str], kind: str = "") -> str:
    return render("parts", "notices", messages, kind)


def external(address: str, words: str) -> str:
    """A link that leaves the studio."""
    return render("parts", "external", address, words)


def facts(lines: list[str]) -> str:
    """What is to be known about a choice, below its field: one line each; empty ones are left out."""
    return render("parts", "facts", [line for line in lines if line])


def empty(title: str, sentence: str) -> str:
    return render("parts", "empty", title, sentence)


def heading(words: str) -> str:
    """Of a part of a tab."""
    return render("parts", "heading", words)


def small(sentence: str) -> str:
    """A sentence in small print."""
    return render("parts", "small", sentence)


def bar(done: int, total: int | None) -> str:
    return render("parts", "bar", share(done, total))


def share(done: int, total: int | None) -> float:
    """What part is done, from 0 to 1."""
    return max(0.0, min(1.0, done / total)) if total else 0.0


def counted(number: int, noun: str) -> str:
    return f"{number:,} {noun}{'' if number == 1 else 's'}"


def duration(seconds: float) -> str:
    """Time left as a person says it."""
    if seconds < 1.5:
        return "1 second"
    if seconds < 90:
        return f"{seconds:.0f} seconds"
    if seconds < 5400:
        return f"{seconds / 60:.0f} minutes"
    return f"{seconds / 3600:.1f} hours"


def size(bytes_: int) -> str:
    """A file's size as a person says it; number and unit stay on one line."""
    return f"{bytes_ / 1e6:.1f}\u00a0MB" if bytes_ >= 1e6 else f"{bytes_ / 1e3:.0f}\u00a0kB"
