/* Captions, saved while they are typed.

   The grid is rendered again while captions are written, and cards change places when an image is removed. So text that is not saved yet
   belongs to an edit of an image, and a box shows the edit of its card's image, or else the rendered text. An edit carries the text that it
   began from: the studio does not overwrite what was changed elsewhere meanwhile, and the card shows both texts.

   Each edit is also a draft in the browser until it is saved. After a reload it is sent again, with the text that it began from. */

import { drafts } from "./drafts.js";
import { onAttach, panelOf } from "./panels.js";

const SAVE_DELAY_MS = 450;
const COUNT_DELAY_MS = 1000;
const POLL_MS = 2000;
const ASK_AGAIN_MS = 10_000;
const BOX = Math.random().toString(36).slice(2);
const AWAY = "Not saved: the studio is not answering. ";
const KEPT = "Your text is kept in this browser and sent when the studio is back.";
const OPEN = "Keep this page open; your text is sent when the studio is back.";

/** Image -> {dataset, id, text, base, timer, conflict, failed}: text that is not saved. */
const edits = new Map();
/** Card -> {key, text}: the stored caption that its box was last set to. */
const stored = new WeakMap();
/** Card -> image that is typed on while the box has the focus: a rendering that is perhaps older than what was typed and saved does not change its
    text before the studio confirms that it is the newest. */
const typed = new WeakMap();

const field = (card) => card.querySelector("textarea");
const keyOf = ({ dataset, id }) => `${dataset}/${id}`;
const draftKey = (edit) => `caption/${keyOf(edit)}`;
const plain = (text) => text.split(/\s+/).filter(Boolean).join(" ");
const cardOf = (edit) => [...document.querySelectorAll(".captioned")].find((card) => keyOf(card.dataset) === keyOf(edit));

/** Status text at the foot of a card. */
export function setStatus(card, text) {
  const status = card?.querySelector(".status");
  if (status && status.textContent !== text) status.textContent = text;
}

function setText(card, text) {
  field(card).value = field(card).defaultValue = text;
  stored.set(card, { key: keyOf(card.dataset), text });
}

/** Show the edit of a card's image: its text, and the other text of a conflict. */
function paint(card) {
  const edit = edits.get(keyOf(card.dataset));
  const conflict = card.querySelector(".conflict");
  conflict.hidden = !edit?.conflict;
  if (!edit?.conflict) return;
  const { text, by } = edit.conflict;
  const theirs = conflict.querySelector(".theirs");
  const words = text ? `“${text}”${by ? `, ${by}` : ""}` : "emptied";
  if (theirs.textContent !== words) theirs.textContent = words;
  setStatus(card, "not saved: choose one");
}

function keep(edit) {
  edit.kept = drafts.put(draftKey(edit), edit.text, edit.base);
}

function forget(edit) {
  edits.delete(keyOf(edit));
  drafts.drop(draftKey(edit));
}

let counting = 0;

/** Refresh the counts above the grid once a caption was saved. */
function count(card) {
  const panel = panelOf(card);
  clearTimeout(counting);
  counting = setTimeout(() => panel?.trigger("saved_caption", {}), COUNT_DELAY_MS);
}

/** The grid shows what this page saved, so its version follows without a rendering. */
function follow(card, { before, after }) {
  const grid = card.closest(".captions");
  if (grid?.dataset.version === before) grid.dataset.version = after;
}

/** One request at a time for an edit: of two, the older one could be stored last. */
function save(edit) {
  clearTimeout(edit.timer);
  edit.saving = (edit.saving ?? Promise.resolve()).then(() => send(edit));
  return edit.saving;
}

async function send(edit) {
  if (edit.conflict || edits.get(keyOf(edit)) !== edit) return;
  const { dataset, id, text, base } = edit;
  const card = cardOf(edit);
  // A panel of the grid answers for images that it does not show any more.
  const panel = panelOf(card ?? document.querySelector("#captions .captions, #captions .empty"));
  try {
    const answer = await panel.server.save_caption({ dataset, id, text, base, box: BOX });
    edit.failed = false;
    if (answer.error) return setStatus(card, `Not saved. ${answer.error}`);
    if (answer.conflict) {
      edit.conflict = answer.conflict;
      return card && paint(card);
    }
    edit.base = text;
    if (card) follow(card, answer);
    if (edit.text !== text) return keep(edit);
    forget(edit);
    if (!card || keyOf(card.dataset) !== keyOf(edit)) return;
    field(card).defaultValue = text;
    stored.set(card, { key: keyOf(edit), text });
    setStatus(card, "saved");
    count(card);
  } catch {
    edit.failed = true;
    setStatus(card, AWAY + (edit.kept ? KEPT : OPEN));
  }
}

async function undo(card) {
  const key = keyOf(card.dataset);
  const edit = edits.get(key);
  if (edit) await save(edit);
  if (edits.has(key)) return;
  const shown = field(card).value;
  try {
    const answer = await panelOf(card).server.undo_caption({ ...card.dataset, base: shown });
    // Meanwhile the card may show another image.
    if (keyOf(card.dataset) !== key) return;
    if (answer.error) return setStatus(card, answer.error);
    setStatus(card, answer.changed ? "changed elsewhere: this is the newest" : plain(answer.text) === plain(shown) ? "no earlier caption" : "previous caption");
    setText(card, answer.text);
    follow(card, answer);
    count(card);
  } catch {
    setStatus(card, "the studio is not answering");
  }
}

function keepMine(card, edit) {
  edit.base = edit.conflict.text;
  edit.conflict = null;
  keep(edit);
  setStatus(card, "saving");
  paint(card);
  return save(edit);
}

async function useTheirs(card, edit) {
  const { dataset, id, text } = edit;
  try {
    const answer = await panelOf(card).server.pass_over_caption({ dataset, id, text });
    if (answer.error) return setStatus(card, answer.error);
    forget(edit);
    if (keyOf(card.dataset) !== keyOf(edit)) return;
    typed.delete(card);
    setText(card, answer.text);
    paint(card);
    setStatus(card, "their text; ↶ brings yours back");
    follow(card, answer);
    count(card);
  } catch {
    setStatus(card, "the studio is not answering");
  }
}

document.addEventListener("input", ({ target }) => {
  const card = target.closest(".captioned");
  if (!card || target !== field(card)) return;
  const { dataset, id } = card.dataset;
  const key = keyOf(card.dataset);
  const shown = stored.get(card);
  const edit = edits.get(key) ?? { dataset, id, base: shown?.key === key ? shown.text : field(card).defaultValue };
  clearTimeout(edit.timer);
  edit.text = field(card).value;
  edits.set(key, edit);
  keep(edit);
  typed.set(card, key);
  if (edit.conflict) return;
  setStatus(card, "saving");
  edit.timer = setTimeout(() => save(edit), SAVE_DELAY_MS);
});

document.addEventListener("click", ({ target }) => {
  const card = target.closest(".captioned");
  if (!card) return;
  const edit = edits.get(keyOf(card.dataset));
  if (target.closest(".undo")) undo(card);
  else if (edit?.conflict && target.closest(".keep-mine")) keepMine(card, edit);
  else if (edit?.conflict && target.closest(".use-theirs")) useTheirs(card, edit);
});

document.addEventListener("focusout", ({ target }) => {
  const card = target.closest(".captioned");
  if (!card) return;
  typed.delete(card);
  const edit = edits.get(keyOf(card.dataset));
  if (edit) save(edit);
});

window.addEventListener("pagehide", () => edits.forEach(send));

const resumed = new Set();

/** Take up the drafts of a dataset that an earlier page could not save. */
function resume(dataset) {
  if (!dataset || resumed.has(dataset)) return;
  resumed.add(dataset);
  const prefix = `caption/${dataset}/`;
  for (const [key, { value, base }] of drafts.entries(prefix)) {
    const edit = { dataset, id: key.slice(prefix.length), text: String(value), base: base ?? "", kept: true };
    if (edits.has(keyOf(edit))) continue;
    edits.set(keyOf(edit), edit);
    save(edit);
  }
}

function refresh(element, newest = false) {
  resume(element.querySelector(".captions")?.dataset.dataset);
  for (const card of element.querySelectorAll(".captioned")) {
    const key = keyOf(card.dataset);
    const caption = field(card);
    const edit = edits.get(key);
    if (edit) {
      if (caption.value !== edit.text) caption.value = edit.text;
    } else if (newest || typed.get(card) !== key || caption !== document.activeElement) {
      // Spaces are cleaned when a caption is stored; the one before the next word stays.
      if (plain(caption.value) !== plain(caption.defaultValue)) caption.value = caption.defaultValue;
      stored.set(card, { key, text: caption.defaultValue });
    }
    paint(card);
  }
}

let requested = { version: "", at: 0 };

/** Send what failed, and render the grid again if the dataset was changed elsewhere. Nothing is asked while the grid is not visible. */
async function poll(element) {
  const grid = element.querySelector(".captions");
  if (!grid?.offsetParent || document.hidden) return;
  const panel = panelOf(element);
  const { version: shown, dataset } = grid.dataset;
  const { version } = await panel.server.dataset_version({ dataset });
  for (const edit of edits.values()) if (edit.failed) save(edit);
  if (!version || grid.dataset.version !== shown) return;
  if (version === shown) return refresh(element, true);
  if (requested.version === version && performance.now() - requested.at < ASK_AGAIN_MS) return;
  requested = { version, at: performance.now() };
  panel.trigger("changed_elsewhere", {});
}

onAttach("#captions", (element) => {
  new MutationObserver(() => refresh(element)).observe(element, { childList: true, subtree: true, characterData: true });
  refresh(element);
  const timer = setInterval(() => (element.isConnected ? poll(element).catch(() => {}) : clearInterval(timer)), POLL_MS);
});
