/* The training queue: rows are updated in place, so the focus would stay on the row and reach the next job. It follows the job that was moved. */

import { onAttach } from "./panels.js";

let moved = null;

document.addEventListener("click", ({ target }) => {
  const button = target.closest("#queue [data-click=move]");
  if (button) moved = `[data-job="${button.dataset.job}"]`;
});

function follow(element) {
  if (!moved || !element.contains(document.activeElement)) return;
  const row = [...element.querySelectorAll("li")].find((each) => each.querySelector(moved));
  const where = document.activeElement.dataset.where;
  const button = row?.querySelector(`[data-where="${where}"]:not([disabled])`) ?? row?.querySelector(".icon:not([disabled])");
  if (button && button !== document.activeElement) button.focus();
}

onAttach("#queue", (element) => {
  new MutationObserver(() => follow(element)).observe(element, { childList: true, subtree: true, attributes: true });
});
