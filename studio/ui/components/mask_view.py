"""What a picture's card shows of its mask: the parts that do not teach, dimmed; a mask brought, taken off, or put back."""

from studio.datasets.dataset import Dataset, DatasetImage
from studio.ui import files
from studio.ui.components.html import counted, text

EVENTS = ("give_mask", "take_mask_off", "put_mask_back")
MEANING = "Only the light parts teach"

SCRIPT = """
const give = async (card, file) => {
  if (!file) return;
  state(card, 'looking at the mask');
  try {
    const {path} = await upload(file);
    trigger('give_mask', {...card.dataset, path});
  } catch (error) { state(card, 'not added: the studio did not answer'); }
};
element.addEventListener('change', e => {
  if (!e.target.matches('.masked input')) return;
  give(e.target.closest('.captioned'), e.target.files[0]);
  e.target.value = '';
});
element.addEventListener('click', e => {
  const look = e.target.closest('.masked .look');
  if (look) look.setAttribute('aria-pressed', look.closest('.face').classList.toggle('dimmed'));
});
const over = new Map();
element.addEventListener('dragover', e => {
  const card = e.target.closest('.captioned');
  if (!card || ![...(e.dataTransfer?.items ?? [])].some(item => item.kind === 'file')) return;
  card.classList.add('dragged');
  clearTimeout(over.get(card));
  over.set(card, setTimeout(() => card.classList.remove('dragged'), 600));
  if (e.target.closest('.droplet')) e.preventDefault();
});
element.addEventListener('drop', e => {
  const place = e.target.closest('.droplet');
  if (!place) return;
  e.preventDefault();
  const card = place.closest('.captioned');
  card.classList.remove('dragged');
  give(card, e.dataTransfer.files[0]);
});
"""
"""Goes behind the script of the captions, whose `state` it uses. What is dropped on the strip at a picture's foot is its mask; what is dropped
anywhere else comes in as pictures. A mask's own name does not matter here."""


def over(dataset: Dataset, picture: DatasetImage) -> str:
    """What lies over a picture on its card."""
    name = text(picture.name)
    strip = '<div class="droplet file-drop">Drop its mask here</div>'
    if picture.mask is None:
        bring = f'<label title="Add a mask: {MEANING.lower()}">+ mask<input type="file" accept="image/*" aria-label="Add a mask to {name}"></label>'
        back = _button("put_mask_back", picture, f"Put the mask of {name} back", "&#8630; mask") if picture.mask_can_undo else ""
        return f'<div class="masked">{bring}{back}</div>{strip}'
    # Multiplied with its picture, a mask darkens what it hides and leaves the rest as it is.
    veil = f'<img class="veil" src="{files.url("mask", dataset.id, picture.mask.stem)}" alt="" loading="lazy">'
    look = f'<button class="look" aria-pressed="false" title="{MEANING}" aria-label="Show the mask of {name}"><i>mask</i><b>{MEANING}</b></button>'
    off = _button("take_mask_off", picture, f"Take the mask of {name} off", "&times;")
    return f'{veil}<div class="masked on">{look}{off}</div>{strip}'


def _button(event: str, picture: DatasetImage, meaning: str, sign: str) -> str:
    return f'<button data-click="{event}" data-id="{text(picture.id)}" title="{meaning}" aria-label="{meaning}">{sign}</button>'


def finding(pictures: list[DatasetImage]) -> str:
    """How many pictures have a mask, in words; nothing when none has."""
    masked = sum(1 for picture in pictures if picture.mask)
    if not masked:
        return ""
    if masked == len(pictures):
        return f"Every picture has a mask. {MEANING}."
    return f"{masked} of {counted(len(pictures), 'picture')} {'has' if masked == 1 else 'have'} a mask: the others teach as a whole."
