/* Captions, saved while they are typed.

   The grid is rendered again while captions are written, and cards change places when an image is removed. So text being typed belongs to a
   draft with an image id, and a field takes the rendered text only when it has no focus and no draft. */

import { onAttach, panelOf } from "./panels.js";

const SAVE_DELAY_MS = 450;
const drafts = new Map();

const field = (card) => card.querySelector("textarea");

/** Status text at the foot of a card. */
export function setStatus(card, text) {
  card.querySelector(".status").textContent = text;
}

async function save(card, draft) {
  clearTimeout(draft.timer);
  const { dataset, id, text } = draft;
  try {
    const answer = await panelOf(card).server.save_caption({ dataset, id, text });
    if (answer.error) return setStatus(card, answer.error);
    if (drafts.get(card) !== draft || draft.text !== text) return;
    drafts.delete(card);
    field(card).defaultValue = text;
    setStatus(card, "saved");
  } catch {
    setStatus(card, "not saved: the studio did not answer. Keep this page open and type again.");
  }
}

async function undo(card) {
  if (drafts.has(card)) await save(card, drafts.get(card));
  try {
    const answer = await panelOf(card).server.undo_caption({ dataset: card.dataset.dataset, id: card.dataset.id });
    if (answer.error) return setStatus(card, answer.error);
    setStatus(card, answer.text === field(card).value ? "no earlier caption" : "previous caption");
    field(card).value = field(card).defaultValue = answer.text;
  } catch {
    setStatus(card, "the studio did not answer");
  }
}

document.addEventListener("input", ({ target }) => {
  const card = target.closest(".captioned");
  if (!card || target !== field(card)) return;
  setStatus(card, "saving");
  const { dataset, id } = card.dataset;
  const begun = drafts.get(card);
  const draft = begun?.id === id ? begun : { dataset, id };
  clearTimeout(draft.timer);
  draft.text = field(card).value;
  draft.timer = setTimeout(() => save(card, draft), SAVE_DELAY_MS);
  drafts.set(card, draft);
});

document.addEventListener("click", ({ target }) => {
  const card = target.closest(".captioned .undo")?.closest(".captioned");
  if (card) undo(card);
});

document.addEventListener("focusout", ({ target }) => {
  const card = target.closest(".captioned");
  if (drafts.has(card)) save(card, drafts.get(card));
});

window.addEventListener("pagehide", () => drafts.forEach((draft, card) => save(card, draft)));

function refresh(element) {
  for (const card of element.querySelectorAll(".captioned")) {
    const caption = field(card);
    if (drafts.has(card) && drafts.get(card).id !== card.dataset.id) drafts.delete(card);
    if (!drafts.has(card) && caption !== document.activeElement && caption.value !== caption.defaultValue) caption.value = caption.defaultValue;
  }
}

onAttach("#captions", (element) => {
  new MutationObserver(() => refresh(element)).observe(element, { childList: true, subtree: true, characterData: true });
});
