/* Immediate updates of the Generate tab: the number beside a slider, the trigger words that the prompt lacks, and the size of small images. */

import { CRISP_SIDE } from "./lightbox.js";

const plain = (words) => ` ${words.toLowerCase().replace(/[^\p{L}\p{N}_]+/gu, " ").trim()} `;

function markMissing(prompt) {
  for (const chip of document.querySelectorAll("#trigger-words .chip")) chip.classList.toggle("missing", !plain(prompt).includes(plain(chip.dataset.word)));
}

document.addEventListener("input", ({ target }) => {
  if (target.closest("#prompt")) markMissing(target.value);
  const weight = target.closest(".weigh");
  if (!weight) return;
  weight.querySelector("output").textContent = Number(target.value).toFixed(2);
  weight.classList.toggle("hot", Number(target.value) > 1);
});

/** The images of a small base stay sharp; see generate.css. */
function enlargeByWholeFactors(image) {
  const panel = image.closest(".image-panel");
  const side = Math.max(image.naturalWidth, image.naturalHeight);
  panel.classList.toggle("crisp", side <= CRISP_SIDE);
  panel.style.setProperty("--unit", `${side / window.devicePixelRatio}px`);
  image.style.setProperty("--share", image.naturalWidth / side);
}

// Load events do not bubble.
document.addEventListener("load", ({ target }) => {
  if (target.matches?.(".image-panel img")) enlargeByWholeFactors(target);
}, { capture: true });
