/* Captions, saved while they are typed.

   The page is drawn again while captions come in, and cards change places when one is taken out. So the words being typed belong to a draft
   with a picture of its own, and a box takes the drawn words only when nobody is in it and nothing of it waits to be saved. */

import { onAttach, panelOf } from "./panels.js";

const WAIT_MS = 450;
const drafts = new Map();

const box = (card) => card.querySelector("textarea");

/** Words at the foot of a card. */
export function tell(card, words) {
  card.querySelector(".saved").textContent = words;
}

async function save(card, draft) {
  clearTimeout(draft.timer);
  const { dataset, id, words } = draft;
  try {
    const answer = await panelOf(card).server.save_caption({ dataset, id, text: words });
    if (answer.error) return tell(card, answer.error);
    if (drafts.get(card) !== draft || draft.words !== words) return;
    drafts.delete(card);
    box(card).defaultValue = words;
    tell(card, "saved");
  } catch {
    tell(card, "not saved: the studio did not answer. Keep this page open and type on.");
  }
}

async function goBack(card) {
  if (drafts.has(card)) await save(card, drafts.get(card));
  try {
    const answer = await panelOf(card).server.undo_caption({ dataset: card.dataset.dataset, id: card.dataset.id });
    if (answer.error) return tell(card, answer.error);
    tell(card, answer.text === box(card).value ? "this is the first one" : "the one before");
    box(card).value = box(card).defaultValue = answer.text;
  } catch {
    tell(card, "the studio did not answer");
  }
}

document.addEventListener("input", ({ target }) => {
  const card = target.closest(".captioned");
  if (!card || target !== box(card)) return;
  tell(card, "saving");
  const { dataset, id } = card.dataset;
  const begun = drafts.get(card);
  const draft = begun?.id === id ? begun : { dataset, id };
  clearTimeout(draft.timer);
  draft.words = box(card).value;
  draft.timer = setTimeout(() => save(card, draft), WAIT_MS);
  drafts.set(card, draft);
});

document.addEventListener("click", ({ target }) => {
  const card = target.closest(".captioned .back")?.closest(".captioned");
  if (card) goBack(card);
});

document.addEventListener("focusout", ({ target }) => {
  const card = target.closest(".captioned");
  if (drafts.has(card)) save(card, drafts.get(card));
});

window.addEventListener("pagehide", () => drafts.forEach((draft, card) => save(card, draft)));

function refresh(element) {
  for (const card of element.querySelectorAll(".captioned")) {
    const words = box(card);
    if (drafts.has(card) && drafts.get(card).id !== card.dataset.id) drafts.delete(card);
    if (!drafts.has(card) && words !== document.activeElement && words.value !== words.defaultValue) words.value = words.defaultValue;
  }
}

onAttach("#captions", (element) => {
  new MutationObserver(() => refresh(element)).observe(element, { childList: true, subtree: true, characterData: true });
});
