/* The list of what waits: rows are patched by their place, so the focus would stay in the place and move the next job.
   It goes with the job that was moved. */

import { onAttach } from "./panels.js";

let pressed = null;

document.addEventListener("click", ({ target }) => {
  const hit = target.closest("#queue [data-click=move]");
  if (hit) pressed = `[data-job="${hit.dataset.job}"]`;
});

function follow(element) {
  if (!pressed || !element.contains(document.activeElement)) return;
  const row = [...element.querySelectorAll("li")].find((each) => each.querySelector(pressed));
  const where = document.activeElement.dataset.where;
  const button = row?.querySelector(`[data-where="${where}"]:not([disabled])`) ?? row?.querySelector(".icon:not([disabled])");
  if (button && button !== document.activeElement) button.focus();
}

onAttach("#queue", (element) => {
  new MutationObserver(() => follow(element)).observe(element, { childList: true, subtree: true, attributes: true });
});
