/* Drafts of the forms: fields that differ from what the page opened with, kept until they are saved.

   A form's draft belongs to what the form is about: the dataset of a training, the image that a prompt began from, the run to publish. */

import { hideBanner, showBanner } from "./banner.js";
import { drafts, mayKeep } from "./drafts.js";
import { onAttach, panelOf } from "./panels.js";
import { place, shownImage } from "./place.js";

/* Gradio shows a choice a moment after the click, and the server may fill other fields after that. */
const READ_AGAIN_MS = [0, 400, 1500];
const SAVED_AFTER_MS = 1500;
const LONGEST_WORD = 60;

const ABOUT = {
  generate: () => ({ image: shownImage() }),
  "new-dataset": () => ({}),
  train: () => ({ dataset: place().dataset }),
  publish: () => ({ adapter: place().published && `run:${place().published}` }),
};

/* A click on the button saves the form once the place changes. */
const SAVERS = { "#create-dataset": ["new-dataset", "dataset"], "#start-training": ["train", "run"], "#sweep-start": ["train", "run"] };

let ids = {};
const formOf = new Map();
const opened = new Map();
const saving = new Map();
const word = { dataset: "", base: "" };

const same = (one, other) => JSON.stringify(one) === JSON.stringify(other);

function readField(id) {
  const root = document.getElementById(id);
  if (!root) return undefined;
  const fields = [...root.querySelectorAll("input, textarea")].filter((field) => field.type !== "file");
  if (!fields.length || !fields.every(mayKeep)) return undefined;
  if (fields[0].type === "radio") return fields.find((field) => field.checked)?.value;
  return fields[0].type === "checkbox" ? fields[0].checked : fields[0].value;
}

function readStack() {
  const rows = document.querySelectorAll("#stack li[data-ref]");
  return [...rows].map((row) => ({
    adapter: row.dataset.ref,
    weight: Number(row.querySelector("input[type=range]")?.value ?? row.dataset.weight),
    on: row.querySelector("input[type=checkbox]").checked,
  }));
}

/** The fields of a form that are on the page; Gradio mounts those of a tab or a fold when it is first opened. */
function readForm(form) {
  const found = Object.entries(ids[form]).map(([name, id]) => [name, readField(id)]);
  if (form === "generate" && document.querySelector("#stack")) found.push(["stack", readStack()]);
  return found.filter(([, value]) => value !== undefined);
}

function begin(form) {
  const about = ABOUT[form]();
  const known = opened.get(form);
  const values = known && same(known.about, about) ? known.values : {};
  for (const [name, value] of readForm(form)) if (!(name in values)) values[name] = value;
  opened.set(form, { about, values });
}

function keep(form) {
  const begun = opened.get(form);
  if (!begun) return;
  const about = ABOUT[form]();
  const kept = drafts.get(`form:${form}`);
  const value = kept && same(kept.base, about) ? { ...kept.value } : {};
  for (const [name, now] of readForm(form)) {
    if (!(name in begun.values)) begun.values[name] = now;
    if (name in value || !same(now, begun.values[name])) value[name] = now;
  }
  if (Object.keys(value).length && !same(value, kept?.value)) drafts.put(`form:${form}`, value, about);
}

function drop(form) {
  drafts.drop(`form:${form}`);
  opened.delete(form);
  begin(form);
}

function formAt(target) {
  for (let element = target; element; element = element.parentElement) if (formOf.has(element.id)) return formOf.get(element.id);
  return null;
}

/** The drafts to open the page with: the fields of each form, and what the form was about. */
export function formDrafts() {
  return Object.fromEntries(drafts.entries("form:").map(([key, { value, base }]) => [key.slice("form:".length), { ...value, ...base }]));
}

/** Begin to keep drafts, once the page shows what it opened with. */
export function keepForms() {
  ids = JSON.parse(document.querySelector("#drafted-forms i").dataset.forms);
  for (const [form, fields] of Object.entries(ids)) for (const id of Object.values(fields)) formOf.set(id, form);
  for (const id of ["stack", "trigger-words", "add-lora"]) formOf.set(id, "generate");
  for (const form of Object.keys(ids)) begin(form);
  onAttach("#stack", (element) => {
    new MutationObserver(() => keep("generate")).observe(element, { childList: true, subtree: true, attributes: true });
  });
}

/** The image with LoRAs is another: `picked` from the history, so that its recipe replaces the form, or newly generated from the form. */
export function imageChanged(picked) {
  const kept = drafts.get("form:generate");
  if (picked) drop("generate");
  else if (kept) drafts.put("form:generate", kept.value, ABOUT.generate());
  const begun = opened.get("generate");
  if (begun) begun.about = ABOUT.generate();
}

/** The server shows another place: what was being saved is saved, and a dataset may have a draft of its trigger word. */
export function placeChanged(before, now) {
  for (const [form, part] of saving) {
    if (before[part] === now[part]) continue;
    saving.delete(form);
    drop(form);
  }
  if (now.dataset !== word.dataset) restoreWord(now.dataset);
}

for (const kind of ["input", "change", "click", "keyup", "focusout"]) {
  document.addEventListener(
    kind,
    ({ target }) => {
      const form = formAt(target);
      if (form) for (const wait of READ_AGAIN_MS) setTimeout(() => keep(form), wait);
    },
    true,
  );
}

for (const kind of ["focusin", "pointerdown"]) {
  document.addEventListener(
    kind,
    ({ target }) => {
      const form = formAt(target);
      if (form) begin(form);
    },
    true,
  );
}

document.addEventListener(
  "click",
  ({ target }) => {
    for (const [button, [form, part]] of Object.entries(SAVERS)) if (target.closest(button)) saving.set(form, part);
  },
  true,
);

document.addEventListener("click", ({ target }) => {
  const message = target.closest("#publish") && document.querySelector("#publish-message");
  if (!message) return;
  const observer = new MutationObserver(() => {
    if (!message.querySelector(".published")) return;
    observer.disconnect();
    drop("publish");
  });
  observer.observe(message, { childList: true, subtree: true });
});

/* The trigger word is saved while it is typed; a draft of it is one that the studio did not get. */

const wordKey = (dataset) => `trigger:${dataset}`;

async function savedWord(dataset) {
  try {
    return (await panelOf(document.querySelector("#place i")).server.stored_word({ dataset })).word;
  } catch {
    return undefined;
  }
}

async function dropSavedWord(dataset) {
  const draft = drafts.get(wordKey(dataset));
  if (draft && (await savedWord(dataset)) === draft.value) drafts.drop(wordKey(dataset));
}

function typeWord(text) {
  const field = document.querySelector("#trigger-word :is(input, textarea)");
  if (!field) return setTimeout(() => typeWord(text), READ_AGAIN_MS[1]);
  field.value = text;
  field.dispatchEvent(new Event("input", { bubbles: true }));
}

async function restoreWord(dataset) {
  word.dataset = dataset;
  const draft = dataset && drafts.get(wordKey(dataset));
  if (!draft) return;
  const saved = await savedWord(dataset);
  if (saved === undefined || word.dataset !== dataset) return;
  if (saved === draft.value) return drafts.drop(wordKey(dataset));
  // Also what was saved while the draft was typed.
  if (draft.base.includes(saved)) return typeWord(draft.value);
  showBanner("trigger", `The trigger word was changed elsewhere: “${saved}” is saved, “${draft.value}” was typed here.`, [
    [`Keep “${saved}”`, () => drafts.drop(wordKey(dataset))],
    [`Use “${draft.value}”`, () => typeWord(draft.value)],
  ]);
}

document.addEventListener("focusin", ({ target }) => {
  if (target.closest("#trigger-word")) word.base = target.value;
});

document.addEventListener("input", ({ target }) => {
  const { dataset } = place();
  if (!target.closest("#trigger-word") || !dataset) return;
  hideBanner("trigger");
  const kept = drafts.get(wordKey(dataset));
  drafts.put(wordKey(dataset), target.value, kept ? [...kept.base, kept.value].slice(-LONGEST_WORD) : [word.base]);
  clearTimeout(word.timer);
  word.timer = setTimeout(() => dropSavedWord(dataset), SAVED_AFTER_MS);
});
