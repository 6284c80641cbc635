/* Drafts of the forms: fields that differ from what the page opened with, kept until they are saved.

   A draft belongs to what its form is about: the dataset of a training, the image that a prompt began from, the run to publish. */

import { hideBanner, showBanner } from "./banner.js";
import { drafts, mayKeep } from "./drafts.js";
import { onAttach, panelOf } from "./panels.js";
import { place, shownImage } from "./place.js";

/* Gradio shows a choice a moment after the click, and the server may fill other fields after that. */
const READ_AGAIN_MS = [0, 400, 1500];
const SAVED_AFTER_MS = 1500;
const FORMER_KEPT_MS = 5000;
const LONGEST_WORD = 60;
const WORD_TIMEOUT_MS = 5000;

const ABOUT = {
  generate: shownImage,
  train: () => place().dataset ?? "",
  publish: () => place().published ?? "",
};

/* A click on the button saves the form once the place changes. */
const SAVERS = { "#start-training": ["train", "run"], "#sweep-start": ["train", "run"] };

let ids = {};
const formOf = new Map();
const opened = new Map();
/* Key of a draft -> its fields that the page shows: restored when it opened, or changed since. The others wait for the page to open for them. */
const shown = new Map();
const saving = new Map();
const word = { dataset: "", base: "" };
const CARDS = "#base-cards, #goal-cards";
/* Whether a card was chosen that the form does not show yet. */
let choosing = false;

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

/** null: there is no init image. */
function readInit() {
  const chosen = document.querySelector("#init-image [data-init]");
  return chosen && { id: chosen.dataset.init, strength: Number(chosen.querySelector("input[type=range]").value) };
}

/** The fields of a form that are on the page; Gradio mounts those of a tab or a fold when it is first opened. */
function readForm(form) {
  const found = Object.entries(ids[form]).map(([name, id]) => [name, readField(id)]);
  if (form === "generate" && document.querySelector("#stack")) found.push(["stack", readStack()], ["init", readInit()]);
  return found.filter(([, value]) => value !== undefined);
}

const keyOf = (form) => `form:${form}:${ABOUT[form]()}`;

function shownFields(key) {
  if (!shown.has(key)) shown.set(key, new Set());
  return shown.get(key);
}

function begin(form) {
  const key = keyOf(form);
  const known = opened.get(form);
  const values = known?.key === key ? known.values : {};
  for (const [name, value] of readForm(form)) if (!(name in values)) values[name] = value;
  opened.set(form, { key, values });
}

function keep(form) {
  const begun = opened.get(form);
  const key = keyOf(form);
  if (begun?.key !== key) return;
  const kept = drafts.get(key)?.value ?? {};
  const value = { ...kept };
  const fields = shownFields(key);
  for (const [name, now] of readForm(form)) {
    if (!(name in begun.values)) begun.values[name] = now;
    if (!same(now, begun.values[name])) fields.add(name);
    if (fields.has(name)) value[name] = now;
  }
  if (same(value, kept)) return;
  drafts.put(key, value, ABOUT[form]());
  saving.delete(form);
}

function drop(form) {
  const key = opened.get(form)?.key ?? keyOf(form);
  drafts.drop(key);
  shown.delete(key);
  opened.delete(form);
  begin(form);
}

function formAt(target) {
  for (let element = target; element; element = element.parentElement) if (formOf.has(element.id)) return formOf.get(element.id);
  return null;
}

const newest = (form) => drafts.entries(`form:${form}:`).at(-1)?.[0];

/** The drafts to open the page at this address with: the fields of each form, and what the form was about. */
export function formDrafts(address) {
  const dataset = address.dataset ?? lastDataset();
  const run = address.tab === "publish" && address.run;
  const keys = {
    generate: address.image ? `form:generate:${address.image}` : newest("generate"),
    train: dataset ? `form:train:${dataset}` : newest("train"),
    publish: run ? `form:publish:${run}` : newest("publish"),
  };
  const found = Object.entries(keys).map(([form, key]) => [form, key, key && drafts.get(key)]);
  for (const [, key, draft] of found) if (draft) for (const name of Object.keys(draft.value)) shownFields(key).add(name);
  return Object.fromEntries(found.filter(([, , draft]) => draft).map(([form, , { value, base }]) => [form, { ...value, about: base }]));
}

/** The dataset that was open last, for an address that names none. */
export const lastDataset = () => drafts.get("dataset")?.value;

/** Begin to keep what is typed, also before the page has opened. */
export function watchForms() {
  const known = document.querySelector("#drafted-forms i");
  if (!known) return;
  ids = JSON.parse(known.dataset.forms);
  for (const [form, fields] of Object.entries(ids)) for (const id of Object.values(fields)) formOf.set(id, form);
  for (const id of ["stack", "init-image", "trigger-words", "add-lora"]) formOf.set(id, "generate");
  for (const id of ["base-cards", "goal-cards"]) formOf.set(id, "train");
  begin("generate");
}

/** The page shows what it opened with. */
export function keepForms() {
  if (!formOf.size) watchForms();
  for (const form of Object.keys(ids)) begin(form);
  onAttach("#stack, #init-image", (element) => {
    new MutationObserver(() => keep("generate")).observe(element, { childList: true, subtree: true, attributes: true });
  });
  // The cards follow the form once the server has filled it for the chosen one.
  onAttach(CARDS, (element) => {
    new MutationObserver(() => {
      if (choosing) setTimeout(() => keep("train"), READ_AGAIN_MS[1]);
      choosing = false;
    }).observe(element, { childList: true, subtree: true });
  });
}

/** The image with LoRAs is another: `picked` from the history, so that its recipe replaces the form, or newly generated from the form. */
export function imageChanged(picked) {
  const begun = opened.get("generate");
  const kept = begun && drafts.get(begun.key);
  const key = keyOf("generate");
  if (picked) {
    if (begun) drafts.drop(begun.key);
    opened.delete("generate");
    drafts.drop(key);
    shown.delete(key);
    // The fields follow the image.
    setTimeout(() => begin("generate"), READ_AGAIN_MS[1]);
  } else if (begun) {
    const former = begun.key;
    shown.set(key, shownFields(former));
    begun.key = key;
    if (kept) drafts.put(key, kept.value, ABOUT.generate());
    // A reload that has begun opens the address of the former image.
    setTimeout(() => {
      if (opened.get("generate")?.key !== former) drafts.drop(former);
    }, FORMER_KEPT_MS);
  }
}

/** The server shows another place: what was being saved is saved, and a dataset may have a draft of its trigger word. */
export function placeChanged(before, now) {
  for (const [form, part] of saving) {
    if (before[part] === now[part]) continue;
    saving.delete(form);
    drop(form);
  }
  if (now.dataset && now.dataset !== lastDataset()) drafts.put("dataset", now.dataset);
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

document.addEventListener("change", ({ target }) => {
  if (target.closest(CARDS)) choosing = true;
});

document.addEventListener(
  "click",
  ({ target }) => {
    // Another run that is opened after a start that failed.
    if (target.closest("[data-click=open]")) saving.delete("train");
    for (const [button, [form, part]] of Object.entries(SAVERS)) if (target.closest(button)) saving.set(form, part);
  },
  true,
);

let publishing = null;

document.addEventListener("click", ({ target }) => {
  const message = target.closest("#publish") && document.querySelector("#publish-message");
  if (!message) return;
  publishing?.disconnect();
  const observer = new MutationObserver(() => {
    if (!message.querySelector(".published")) return;
    observer.disconnect();
    drop("publish");
  });
  publishing = observer;
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

/* Once the field shows the saved word: filled before, it would be filled again. Given up where the user opened another dataset or typed meanwhile,
   and some seconds after the field is there with another word. */
function typeWord(dataset, text, saved, until = null) {
  if (word.dataset !== dataset || drafts.get(wordKey(dataset))?.value !== text) return;
  const field = document.querySelector("#trigger-word :is(input, textarea)");
  if (field?.value !== saved) {
    const end = field ? (until ?? performance.now() + WORD_TIMEOUT_MS) : null;
    if (end === null || performance.now() < end) setTimeout(() => typeWord(dataset, text, saved, end), READ_AGAIN_MS[1]);
    return;
  }
  field.value = text;
  for (const kind of ["input", "blur"]) field.dispatchEvent(new Event(kind, { bubbles: kind === "input" }));
}

async function restoreWord(dataset) {
  word.dataset = dataset;
  hideBanner("trigger");
  const draft = dataset && drafts.get(wordKey(dataset));
  if (!draft) return;
  const saved = await savedWord(dataset);
  if (saved === undefined || word.dataset !== dataset) return;
  if (saved === draft.value) return drafts.drop(wordKey(dataset));
  // Also what was saved while the draft was typed.
  if (draft.base.includes(saved)) return typeWord(dataset, draft.value, saved);
  showBanner("trigger", `The trigger word was changed elsewhere: “${saved}” is saved, “${draft.value}” was typed here.`, [
    [`Keep “${saved}”`, () => drafts.drop(wordKey(dataset))],
    [`Use “${draft.value}”`, () => typeWord(dataset, draft.value, saved)],
  ]);
}

document.addEventListener("click", ({ target }) => {
  // The user gave up the typed word: its draft must not come back after a reload.
  if (target.closest("#trigger-word-note [data-click=use_theirs]")) drafts.drop(wordKey(place().dataset));
});

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
