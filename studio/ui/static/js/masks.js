/* Masks of pictures: brought by a file field or dropped on the strip at a picture's foot, and looked at by a tap.

   What is dropped anywhere else comes in as pictures. A mask's own name does not matter here. */

import { tell } from "./captions.js";
import { panelOf } from "./panels.js";

const DRAGGED_MS = 600;

async function give(card, file) {
  if (!file) return;
  const { trigger, upload } = panelOf(card);
  tell(card, "looking at the mask");
  try {
    const { path } = await upload(file);
    trigger("give_mask", { ...card.dataset, path });
  } catch {
    tell(card, "not added: the studio did not answer");
  }
}

document.addEventListener("change", ({ target }) => {
  if (!target.matches(".captioned .masked input")) return;
  give(target.closest(".captioned"), target.files[0]);
  target.value = "";
});

document.addEventListener("click", ({ target }) => {
  const look = target.closest(".masked .look");
  if (look) look.setAttribute("aria-pressed", look.closest(".face").classList.toggle("dimmed"));
});

const over = new Map();

document.addEventListener("dragover", (event) => {
  const card = event.target.closest(".captioned");
  if (!card || ![...(event.dataTransfer?.items ?? [])].some((item) => item.kind === "file")) return;
  card.classList.add("dragged");
  clearTimeout(over.get(card));
  over.set(card, setTimeout(() => card.classList.remove("dragged"), DRAGGED_MS));
  if (event.target.closest(".droplet")) event.preventDefault();
});

document.addEventListener("drop", (event) => {
  const place = event.target.closest(".droplet");
  if (!place) return;
  event.preventDefault();
  const card = place.closest(".captioned");
  card.classList.remove("dragged");
  give(card, event.dataTransfer.files[0]);
});
