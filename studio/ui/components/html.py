"""Small pieces of HTML. Templates escape every text from a user or a file, so it stays text."""

import functools
from collections.abc import Iterable, Sequence

import gradio as gr
from gradio.events import EventListener

from studio.ui.components.templates import render

ATTACH = "studio.attach(element, trigger, server, upload)"
"""The only JavaScript in Python: the `js_on_load` of a panel. static/js/compiled.js recognises this exact string and passes the panel to
panels.js. Gradio 6.31 gives `trigger`, which calls the handlers of a component, only to code in `js_on_load`."""

TURN = "turn"
"""Class of a component whose handlers take turns: Page.turn lets those that set it run one after the other. Every panel has it."""


def html(value: str = "", **place: object) -> gr.HTML:
    """HTML without events."""
    return gr.HTML(value, js_on_load=None, **place)


def panel(value: str = "", events: tuple[str, ...] = (), elem_classes: Sequence[str] = (), **place: object) -> gr.HTML:
    """HTML whose buttons (`data-click="event"`) and inputs (`data-change="event"`) call handlers with their data attributes, and with their value
    or that of the field which `data-with` selects. Whatever sets a panel takes turns: a list drawn before the last tick must not replace the one
    with it."""
    shown = gr.HTML(value, js_on_load=ATTACH, elem_classes=[*elem_classes, TURN], **place)
    for event in events:
        setattr(shown, event, functools.partial(EventListener(event).listener, shown))
    return shown


def notice(message: str, kind: str = "") -> str:
    """A message in a soft box; kind: "", good, warn or bad."""
    return render("parts", "notice", message, kind) if message else ""


def notices(messages: Iterable[str], kind: str = "") -> str:
    return render("parts", "notices", messages, kind)


def external(address: str, text: str) -> str:
    """A link that leaves the studio."""
    return render("parts", "external", address, text)


def facts(lines: list[str]) -> str:
    """Details below a field, one line each; empty ones are left out."""
    return render("parts", "facts", [line for line in lines if line])


def empty(title: str, text: str) -> str:
    return render("parts", "empty", title, text)


def heading(text: str) -> str:
    """Heading of a part of a tab."""
    return render("parts", "heading", text)


def small(text: str) -> str:
    """Text in small print."""
    return render("parts", "small", text)


def bar(done: int, total: int | None) -> str:
    return render("parts", "bar", share(done, total))


def share(done: int, total: int | None) -> float:
    """Fraction that is done, from 0 to 1."""
    return max(0.0, min(1.0, done / total)) if total else 0.0


def listed(words: Sequence[str]) -> str:
    """ "A", "A and B", "A, B and C"."""
    return " and ".join([*([", ".join(words[:-1])] if len(words) > 1 else []), *words[-1:]])


def duration(seconds: float) -> str:
    """Readable time left."""
    if seconds < 1.5:
        return "1 second"
    if seconds < 90:
        return f"{seconds:.0f} seconds"
    if seconds < 5400:
        return f"{seconds / 60:.0f} minutes"
    return f"{seconds / 3600:.1f} hours"


def size(bytes_: int) -> str:
    """Readable file size; number and unit stay on one line."""
    return f"{bytes_ / 1e6:.1f}\u00a0MB" if bytes_ >= 1e6 else f"{bytes_ / 1e3:.0f}\u00a0kB"
