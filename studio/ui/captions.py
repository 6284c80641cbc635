"""Pictures with their captions beside them, edited in place and saved while typed."""

from studio.captioning import CAPTIONERS
from studio.dataset import Dataset
from studio.ui import files
from studio.ui.html import counted, empty, text

SOURCES = {"hand": "by hand", "file": "from your file", "sample": "from the samples", "": ""}

SAVE_WHILE_TYPED = """
const waiting = new Map();
const state = (card, words) => { card.querySelector('.saved').textContent = words; };
const save = async card => {
  clearTimeout(waiting.get(card)); waiting.delete(card);
  const box = card.querySelector('textarea');
  try {
    const answer = await server.save_caption({dataset: card.dataset.dataset, id: card.dataset.id, text: box.value});
    state(card, answer.error || 'saved');
  } catch (error) { state(card, 'not saved: the studio did not answer. Keep this page open and type on.'); }
};
element.addEventListener('input', e => {
  const card = e.target.closest('.captioned');
  if (!card) return;
  state(card, 'saving');
  clearTimeout(waiting.get(card)); waiting.set(card, setTimeout(() => save(card), 450));
});
element.addEventListener('click', async e => {
  const card = e.target.closest('.captioned');
  if (!card || !e.target.closest('.back')) return;
  const box = card.querySelector('textarea');
  if (waiting.has(card)) await save(card);
  try {
    const answer = await server.undo_caption({dataset: card.dataset.dataset, id: card.dataset.id});
    if (answer.error) return state(card, answer.error);
    state(card, answer.text === box.value ? 'this is the first one' : 'the one before');
    box.value = answer.text;
  } catch (error) { state(card, 'the studio did not answer'); }
});
element.addEventListener('focusout', e => { const card = e.target.closest('.captioned'); if (card && waiting.has(card)) save(card); });
window.addEventListener('pagehide', () => waiting.forEach((_, card) => save(card)));
"""


def grid(dataset: Dataset | None) -> str:
    """One card a picture: the picture, its caption, who wrote it, and a way to take it out."""
    if dataset is None:
        return ""
    pictures = dataset.pictures
    if not pictures:
        return empty(
            "No pictures yet",
            "Drop 10 to 50 pictures here, or press Add pictures. A .txt file with the same name becomes the caption; a .zip may hold both.",
        )
    return f'<div class="captions">{"".join(_card(dataset, p) for p in pictures)}</div>'


def _card(dataset: Dataset, picture) -> str:
    source = SOURCES.get(picture.caption_source, f"by {_captioner(picture.caption_source)}")
    caption = text(picture.caption)
    return (
        f'<div class="captioned" data-dataset="{text(dataset.id)}" data-id="{text(picture.id)}">'
        f'<img src="{files.url("thumb", dataset.id, picture.id)}" alt="{caption or "picture without a caption"}" loading="lazy">'
        f'<textarea rows="3" value="{caption}" placeholder="What is in this picture?" spellcheck="false" '
        f'aria-label="Caption of {text(picture.name)}">{caption}</textarea>'
        f'<div class="foot"><span class="saved small">{text(source)}</span>'
        f'<button class="x back" title="Back to the caption before" aria-label="Undo the caption of {text(picture.name)}">&#8630;</button>'
        f'<button class="x" data-click="leave_out" data-id="{text(picture.id)}" title="Take out" '
        f'aria-label="Take out {text(picture.name)}">&times;</button></div></div>'
    )


def _captioner(name: str) -> str:
    return CAPTIONERS[name].title if name in CAPTIONERS else name


def summary(dataset: Dataset) -> str:
    """Counts in words: pictures, captions missing, where the trigger word is missing."""
    pictures = dataset.pictures
    if not pictures:
        return ""
    bare = sum(1 for p in pictures if not p.caption.strip())
    word = dataset.trigger_word.strip().lower()
    without = sum(1 for p in pictures if p.caption.strip() and word not in p.caption.lower().split()) if word else 0
    parts = [counted(len(pictures), "picture")]
    parts.append(f"{bare} without a caption" if bare else "all captioned")
    if word and not bare:
        parts.append(f"{without} captions lack “{dataset.trigger_word}”" if without else f"“{dataset.trigger_word}” is in every caption")
    return f'<div class="counts">{text(", ".join(parts))}</div>'


def refusals(refused: list[dict]) -> str:
    """Files that could not be used, each with its reason."""
    if not refused:
        return ""
    items = "".join(f"<li>{text(each['reason'])}</li>" for each in refused[:50])
    more = f"<li>and {len(refused) - 50} more</li>" if len(refused) > 50 else ""
    said = f"<b>{counted(len(refused), 'file')} could not be used; the others are in.</b>"
    return f'<div class="notice warn" role="status"><div>{said}<ul>{items}{more}</ul></div></div>'
