/* Cards of the Train form: the keyboard stays on the chosen card when the server renders the group again. */

import { onAttach } from "./panels.js";

let focused = "";

document.addEventListener("focusin", ({ target }) => {
  focused = target.closest(".setup-cards") ? target.name : "";
});

document.addEventListener("pointerdown", ({ target }) => {
  if (!target.closest(".setup-cards")) focused = "";
});

for (const panel of ["#dataset-cards", "#base-cards", "#goal-cards"]) {
  onAttach(panel, (element) => {
    new MutationObserver(() => {
      if (focused && document.activeElement === document.body) element.querySelector(`input[name="${focused}"]:checked`)?.focus({ preventScroll: true });
    }).observe(element, { childList: true, subtree: true });
  });
}
