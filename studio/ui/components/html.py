"""Small pieces of HTML. Every text that a person or a file brought in goes through `text`, so it can only ever be text."""

from html import escape

import gradio as gr

LISTEN = """
const send = (kind, e) => {
  const hit = e.target.closest(`[data-${kind}]`);
  if (!hit || !element.contains(hit) || (hit.dataset.confirm && !confirm(hit.dataset.confirm))) return;
  const field = hit.dataset.with ? element.querySelector(hit.dataset.with) : hit;
  const value = field.type === 'checkbox' ? field.checked : field.value;
  trigger(hit.dataset[kind], {...hit.dataset, value});
};
element.addEventListener('click', e => send('click', e));
element.addEventListener('change', e => send('change', e));
element.addEventListener('input', e => {
  const shown = e.target.closest('.weigh');
  if (!shown) return;
  shown.querySelector('output').textContent = Number(e.target.value).toFixed(2);
  shown.classList.toggle('hot', Number(e.target.value) > 1);
});
"""


def drop_anywhere(upload: str, only: str = "", several: bool = False) -> str:
    """JavaScript: what is dropped anywhere on the page while this component is in sight goes into the upload button of that name.
    `only` is a media type; what is dropped on an upload of its own is left to that."""
    held = f"items.some(item => item.kind === 'file' && item.type === '{only}')" if only else "items.some(item => item.kind === 'file')"
    return f"""
const room = document.querySelector('.gradio-container');
const takes = e => {{
  const items = [...(e.dataTransfer?.items ?? [])];
  return element.offsetParent && !e.target.closest('input[type=file], .file-drop') && {held};
}};
room.addEventListener('dragover', e => {{ if (takes(e)) e.preventDefault(); }});
room.addEventListener('drop', e => {{
  const input = document.querySelector('input[data-testid^="{upload}"]');
  if (!takes(e) || !input) return;
  e.preventDefault();
  const carrier = new DataTransfer();
  for (const file of [...e.dataTransfer.files]{"" if several else ".slice(0, 1)"}) carrier.items.add(file);
  input.files = carrier.files; input.dispatchEvent(new Event('change', {{bubbles: true}}));
}});
"""


def panel(value: str = "", events: tuple[str, ...] = (), script: str = "", **place) -> gr.HTML:
    """HTML whose buttons (`data-click="event"`) and inputs (`data-change="event"`) call handlers with their data attributes, and with their value
    or that of the field which `data-with` selects."""
    names = " ".join(f"'{event}'" for event in events)
    return gr.HTML(value, js_on_load=f"{LISTEN}\n{script}\n// {names}", **place)


def text(value: object) -> str:
    return escape(str(value), quote=True)


def notice(message: str, kind: str = "") -> str:
    """A sentence in a soft box; kind: "", good, warn or bad."""
    role = "alert" if kind == "bad" else "status"
    return f'<div class="notice {kind}" role="{role}">{text(message)}</div>' if message else ""


def lead(title: str, sentence: str) -> str:
    """A tab's title and its one sentence; the sentence is our own HTML."""
    return f'<div class="lead"><h2>{text(title)}</h2><p>{sentence}</p></div>'


def term(word: str, meaning: str) -> str:
    """A word of the craft, explained where it stands."""
    return f'<span class="term" tabindex="0" data-meaning="{text(meaning)}" aria-label="{text(word)}: {text(meaning)}">{text(word)}</span>'


def external(address: str, words: str) -> str:
    """A link that leaves the studio."""
    return f'<a href="{text(address)}" target="_blank" rel="noopener">{text(words)}</a>'


def facts(lines: list[str]) -> str:
    """What is to be known about a choice, below its field: one line each, our own HTML; empty ones are left out."""
    return f'<div class="aboutchoice">{"".join(f"<p>{line}</p>" for line in lines if line)}</div>'


def empty(title: str, sentence: str) -> str:
    return f'<div class="empty"><h3>{text(title)}</h3><p>{text(sentence)}</p></div>'


def bar(done: int, total: int | None) -> str:
    share = 0 if not total else max(0.0, min(1.0, done / total))
    value = f'aria-valuemin="0" aria-valuemax="100" aria-valuenow="{share * 100:.0f}" aria-label="progress"'
    return f'<div class="bar" role="progressbar" {value}><i style="width:{share * 100:.1f}%"></i></div>'


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
