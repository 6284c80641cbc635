"""Pictures with their captions beside them, edited in place and saved while typed."""

from studio.datasets.captioners import CAPTIONERS
from studio.datasets.dataset import Dataset
from studio.datasets.trigger_words import has_word
from studio.ui import files
from studio.ui.components import mask_view
from studio.ui.components.html import counted, empty, text

SOURCES = {"hand": "by hand", "file": "from your file", "sample": "from the samples", "": ""}

SAVE_WHILE_TYPED = """
const drafts = new Map();
const state = (card, words) => { card.querySelector('.saved').textContent = words; };
const box = card => card.querySelector('textarea');
const save = async (card, draft) => {
  clearTimeout(draft.timer);
  const {dataset, id, words} = draft;
  try {
    const answer = await server.save_caption({dataset, id, text: words});
    if (answer.error) return state(card, answer.error);
    if (drafts.get(card) !== draft || draft.words !== words) return;
    drafts.delete(card);
    box(card).defaultValue = words;
    state(card, 'saved');
  } catch (error) { state(card, 'not saved: the studio did not answer. Keep this page open and type on.'); }
};
element.addEventListener('input', e => {
  const card = e.target.closest('.captioned');
  if (!card || e.target !== box(card)) return;
  state(card, 'saving');
  const {dataset, id} = card.dataset, begun = drafts.get(card);
  const draft = begun?.id === id ? begun : {dataset, id};
  clearTimeout(draft.timer);
  draft.words = box(card).value;
  draft.timer = setTimeout(() => save(card, draft), 450);
  drafts.set(card, draft);
});
element.addEventListener('click', async e => {
  const card = e.target.closest('.captioned');
  if (!card || !e.target.closest('.back')) return;
  if (drafts.has(card)) await save(card, drafts.get(card));
  try {
    const answer = await server.undo_caption({dataset: card.dataset.dataset, id: card.dataset.id});
    if (answer.error) return state(card, answer.error);
    state(card, answer.text === box(card).value ? 'this is the first one' : 'the one before');
    box(card).value = box(card).defaultValue = answer.text;
  } catch (error) { state(card, 'the studio did not answer'); }
});
element.addEventListener('focusout', e => { const card = e.target.closest('.captioned'); if (drafts.has(card)) save(card, drafts.get(card)); });
window.addEventListener('pagehide', () => drafts.forEach((draft, card) => save(card, draft)));
new MutationObserver(() => element.querySelectorAll('.captioned').forEach(card => {
  const words = box(card);
  if (drafts.has(card) && drafts.get(card).id !== card.dataset.id) drafts.delete(card);
  if (!drafts.has(card) && words !== document.activeElement && words.value !== words.defaultValue) words.value = words.defaultValue;
})).observe(element, {childList: true, subtree: true, characterData: true});
"""
"""The page is drawn again while captions come in, and cards change places when one is taken out. So the words being typed belong to a draft
with a picture of its own, and a box takes the drawn words only when nobody is in it and nothing of it waits to be saved."""


def grid(dataset: Dataset | None) -> str:
    """One card a picture: the picture, its caption, who wrote it, and a way to take it out."""
    if dataset is None:
        return ""
    pictures = dataset.images
    if not pictures:
        return empty(
            "No pictures yet",
            "Drop 10 to 50 pictures here, or press Add pictures. A .txt file with the same name becomes the caption, a grey "
            "name-mask.png the mask of name.png: only the light parts teach. A .zip may hold them all.",
        )
    return f'<div class="captions">{"".join(_card(dataset, p) for p in pictures)}</div>'


def _card(dataset: Dataset, picture) -> str:
    source = SOURCES.get(picture.caption_source, f"by {_captioner(picture.caption_source)}")
    caption = text(picture.caption)
    return (
        f'<div class="captioned" data-dataset="{text(dataset.id)}" data-id="{text(picture.id)}">'
        f'<div class="face"><img src="{files.url("thumb", dataset.id, picture.id)}" alt="{caption or "picture without a caption"}" loading="lazy">'
        f"{mask_view.over(dataset, picture)}</div>"
        f'<textarea rows="3" placeholder="What is in this picture?" spellcheck="false" '
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
    pictures = dataset.images
    if not pictures:
        return ""
    bare = sum(1 for p in pictures if not p.caption.strip())
    word = dataset.trigger_word
    without = sum(1 for p in pictures if p.caption.strip() and not has_word(p.caption, word)) if word else 0
    parts = [counted(len(pictures), "picture")]
    parts.append(f"{bare} without a caption" if bare else "all captioned")
    if word and not bare:
        parts.append(f"{counted(without, 'caption')} {'lacks' if without == 1 else 'lack'} “{word}”" if without else f"“{word}” is in every caption")
    masked = f'<div class="small">{mask_view.finding(pictures)}</div>'
    return f'<div class="counts">{text(", ".join(parts))}</div>{masked}'


def refusals(refused: list[dict], came_in: int) -> str:
    """Files that could not be used, each with its reason; `came_in` counts those that could."""
    if not refused:
        return ""
    items = "".join(f"<li>{text(each['reason'])}</li>" for each in refused[:50])
    more = f"<li>and {len(refused) - 50} more</li>" if len(refused) > 50 else ""
    said = f"<b>{counted(len(refused), 'file')} could not be used; {'the others are in' if came_in else 'nothing was added'}.</b>"
    return f'<div class="notice warn" role="status"><div>{said}<ul>{items}{more}</ul></div></div>'
