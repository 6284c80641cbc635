/* Any image, large: a button with data-large (its address) opens it in a dialog, with its recipe beside it.

   data-before     the address of another image; a slider moves the border between both. data-titles="before|after" are their names
   data-pair       the same, with the image at the same place in the element that this selects
   data-compare    the slider is shown at once
   data-image      the id of an image in the history, which can be restored and removed
   Arrow keys and swipes move to the other images of the nearest element with data-gallery, or of the stage. */

import { panelIn } from "./panels.js";
import { describe, recipeOf } from "./recipe.js";

const SMALLEST_SWIPE_PX = 48;
/** Longest side in pixels of an image that is enlarged by whole factors of the screen's pixels. */
export const CRISP_SIDE = 256;
const ACTIONS = "#history";

const dialog = () => document.querySelector("dialog.lightbox");
const part = (selector) => dialog().querySelector(selector);

/* The shown button, and its data when it was opened: Gradio fills the same elements with other images when a list changes. */
let opener = null;
let shownData = {};
let recipe = null;
let comparing = false;

/** The id of the image that the dialog shows, if it is one of the history. */
export const pickedImage = () => shownData.image ?? "";

const visible = (element) => element.getClientRects().length > 0;
const imagesIn = (element) => [...(element?.querySelectorAll("[data-large]") ?? [])].filter(visible);
const gallery = () => imagesIn(opener.closest("[data-gallery], .stage") ?? opener.parentElement);
const placeIn = (images) => images.findIndex((each) => each.dataset.large === shownData.large);

function beforeOf(button) {
  const { before, pair } = button.dataset;
  if (before || !pair) return before;
  return imagesIn(document.querySelector(pair))[imagesIn(button.parentElement).indexOf(button)]?.dataset.large;
}

/** An image of the small world is enlarged by whole factors of the screen's pixels, so that its pixels stay sharp; a large one is shrunk to fit. */
function fit() {
  const image = part(".shown");
  const { naturalWidth: width, naturalHeight: height } = image;
  const { clientWidth, clientHeight } = part(".lightbox-image");
  if (!width || !clientWidth) return;
  const most = Math.min(clientWidth / width, clientHeight / height);
  const crisp = Math.max(width, height) <= CRISP_SIDE && most >= 1;
  const dots = window.devicePixelRatio;
  const factor = crisp ? Math.floor(most * dots) / dots : Math.min(1, most);
  const frame = part(".lightbox-frame");
  frame.classList.toggle("crisp", crisp);
  frame.style.width = `${Math.round(width * factor)}px`;
  frame.style.height = `${Math.round(height * factor)}px`;
}

const space = new ResizeObserver(fit);

function split(percent) {
  part(".lightbox-frame").style.setProperty("--split", `${percent}%`);
}

function showPair() {
  const { before } = shownData;
  const [left, right] = (shownData.titles ?? "before|after").split("|");
  const shown = Boolean(before) && comparing;
  for (const selector of [".before", "input", ".border", ".corner.left", ".corner.right"]) part(selector).hidden = !shown;
  if (shown) part(".before").src = before;
  part(".corner.left").textContent = left;
  part(".corner.right").textContent = right;
  const toggle = part("[data-lightbox=compare]");
  toggle.hidden = !before;
  toggle.textContent = `Compare with: ${left.toLowerCase()}`;
  toggle.setAttribute("aria-pressed", shown);
}

function showFacts(pairs) {
  part(".facts-list").replaceChildren(
    ...pairs.map(([name, value]) => {
      const row = document.createElement("div");
      for (const [tag, text] of [["dt", name], ["dd", value]]) row.append(Object.assign(document.createElement(tag), { textContent: text }));
      return row;
    }),
  );
}

function showActions() {
  const { image, large } = shownData;
  for (const action of ["pick", "remove_image"]) part(`[data-lightbox=${action}]`).hidden = !image;
  part("[data-lightbox=use_prompt]").hidden = !recipe?.prompt;
  part("[data-lightbox=add_to_dataset]").hidden = !recipe;
  part("[data-lightbox=save]").href = large;
}

async function show(button) {
  opener = button;
  shownData = { ...button.dataset, before: beforeOf(button) };
  recipe = null;
  const { large } = shownData;
  const caption = button.closest(".captioned")?.querySelector("textarea").value;
  const shown = part(".shown");
  shown.src = large;
  shown.alt = button.querySelector("img")?.alt || caption || "";
  part(".lightbox-caption").textContent = caption || shown.alt;
  const images = gallery();
  part(".place").textContent = images.length > 1 ? `${images.indexOf(button) + 1} of ${images.length}` : "";
  for (const step of dialog().querySelectorAll(".step")) step.hidden = images.length < 2;
  showFacts([]);
  showPair();
  showActions();
  split(part("input").value);
  const found = await recipeOf(large);
  if (shownData.large !== large) return;
  recipe = found;
  if (recipe?.prompt) part(".lightbox-caption").textContent = recipe.prompt;
  const size = shown.naturalWidth ? [["Size", `${shown.naturalWidth} x ${shown.naturalHeight}`]] : [];
  showFacts([...(recipe ? describe(recipe) : []), ...size]);
  showActions();
}

function open(button) {
  comparing = "compare" in button.dataset;
  part("input").value = 50;
  if (!dialog().open) dialog().showModal();
  space.observe(part(".lightbox-image"));
  show(button);
}

function move(by) {
  const images = gallery();
  const at = Math.max(0, placeIn(images));
  if (images.length > 1) show(images[(at + by + images.length) % images.length]);
}

/** Handlers of the history act on the image; the page shows what they did, so the dialog is closed. */
function act(action) {
  const { image, large } = shownData;
  panelIn(ACTIONS)?.trigger(action, { id: image, prompt: recipe?.prompt ?? "", address: large });
  dialog().close();
}

const COMMANDS = {
  close: () => dialog().close(),
  previous: () => move(-1),
  next: () => move(1),
  compare: () => {
    comparing = !comparing;
    showPair();
  },
  save: () => {},
};

document.addEventListener("click", ({ target }) => {
  const button = target.closest("[data-large]");
  if (button) return open(button);
  const command = target.closest("[data-lightbox]")?.dataset.lightbox;
  if (command) return (COMMANDS[command] ?? (() => act(command)))();
  if (target.matches("dialog.lightbox, .lightbox-image")) dialog().close();
});

document.addEventListener("keydown", (event) => {
  // With a modifier they are the browser's Back and Forward.
  if (!dialog()?.open || event.target.matches("input") || event.altKey || event.ctrlKey || event.metaKey) return;
  const by = { ArrowLeft: -1, ArrowRight: 1 }[event.key];
  if (!by) return;
  event.preventDefault();
  move(by);
});

window.addEventListener("popstate", () => dialog()?.close());

document.addEventListener("input", ({ target }) => {
  if (target.closest(".lightbox-frame")) split(target.value);
});

let touched = null;

document.addEventListener("touchstart", ({ target, touches }) => {
  touched = target.closest(".lightbox-image") && !target.matches("input") && touches.length === 1 ? touches[0].clientX : null;
}, { passive: true });

document.addEventListener("touchend", ({ changedTouches }) => {
  if (touched === null) return;
  const distance = changedTouches[0].clientX - touched;
  touched = null;
  if (Math.abs(distance) >= SMALLEST_SWIPE_PX) move(distance < 0 ? 1 : -1);
}, { passive: true });

// Load events do not bubble.
document.addEventListener("load", ({ target }) => {
  if (target.matches?.(".lightbox .shown")) fit();
}, { capture: true });
