/* Masks of images: added with a file field or dropped on the strip at an image's foot, and shown by a click.

   Files dropped anywhere else are added as images. A mask may have any file name. */

import { setStatus } from "./captions.js";
import { panelOf } from "./panels.js";

const DRAG_TIMEOUT_MS = 600;

async function addMask(card, file) {
  if (!file) return;
  const { trigger, upload } = panelOf(card);
  setStatus(card, "adding the mask");
  try {
    const { path } = await upload(file);
    trigger("add_mask", { ...card.dataset, path });
  } catch {
    setStatus(card, "not added: the studio did not answer");
  }
}

document.addEventListener("change", ({ target }) => {
  if (!target.matches(".captioned .masked input")) return;
  addMask(target.closest(".captioned"), target.files[0]);
  target.value = "";
});

document.addEventListener("click", ({ target }) => {
  const button = target.closest(".show-mask");
  if (button) button.setAttribute("aria-pressed", button.closest(".image").classList.toggle("dimmed"));
});

const timers = new Map();

document.addEventListener("dragover", (event) => {
  const card = event.target.closest(".captioned");
  if (!card || ![...(event.dataTransfer?.items ?? [])].some((item) => item.kind === "file")) return;
  card.classList.add("dragged");
  clearTimeout(timers.get(card));
  timers.set(card, setTimeout(() => card.classList.remove("dragged"), DRAG_TIMEOUT_MS));
  if (event.target.closest(".mask-drop")) event.preventDefault();
});

document.addEventListener("drop", (event) => {
  const target = event.target.closest(".mask-drop");
  if (!target) return;
  event.preventDefault();
  const card = target.closest(".captioned");
  card.classList.remove("dragged");
  addMask(card, event.dataTransfer.files[0]);
});
