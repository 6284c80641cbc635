/* Settings of the Train form: errors stand under their fields, and the search field filters the drawer. */

import { onAttach } from "./panels.js";

const ERROR = "field-error";
const HIDDEN = "filtered-out";

/** Put each error of the list under the field that it names; those whose field is not on the page stay in the list. */
function placeErrors(list) {
  const errors = [...list.querySelectorAll("[data-field]")];
  const wrong = new Set(errors.map((error) => error.dataset.field));
  for (const shown of document.querySelectorAll(`.${ERROR}`)) if (!wrong.has(shown.dataset.of)) clear(shown);
  for (const error of errors) {
    const field = document.getElementById(error.dataset.field);
    if (!field) continue;
    const id = `${error.dataset.field}-error`;
    const below = document.getElementById(id) ?? field.appendChild(document.createElement("p"));
    Object.assign(below, { id, className: ERROR, textContent: error.textContent });
    below.dataset.of = error.dataset.field;
    for (const input of inputsOf(field)) {
      input.setAttribute("aria-invalid", "true");
      input.setAttribute("aria-describedby", id);
    }
    error.hidden = field.offsetParent !== null;
  }
}

const inputsOf = (field) => field.querySelectorAll("input, textarea");

function clear(shown) {
  for (const input of inputsOf(shown.parentElement)) {
    input.removeAttribute("aria-invalid");
    input.removeAttribute("aria-describedby");
  }
  shown.remove();
}

onAttach("#setting-errors", (list) => {
  placeErrors(list);
  new MutationObserver(() => placeErrors(list)).observe(list, { childList: true, subtree: true });
});

/** Show the settings of the drawer that contain every word, and the titles of groups that have one. */
function filter(field) {
  const drawer = field.closest("#all-settings");
  const words = field.value.toLowerCase().split(/\s+/).filter(Boolean);
  let found = 0;
  for (const setting of drawer.querySelectorAll("[id^=setting-], #run-name, #memory")) {
    const text = `${setting.textContent} ${setting.id}`.toLowerCase();
    const matches = words.every((word) => text.includes(word));
    setting.classList.toggle(HIDDEN, !matches);
    found += matches;
  }
  for (const group of drawer.querySelectorAll(".group"))
    group.classList.toggle(HIDDEN, !group.querySelector(`[id^=setting-]:not(.${HIDDEN})`));
  field.parentElement.querySelector("[role=status]").textContent = words.length && !found ? "No setting contains these words." : "";
}

document.addEventListener("input", ({ target }) => {
  if (target.id === "search-settings") filter(target);
});
