/* Buttons with data-copy copy that text and say so for a moment. Where the browser has no clipboard, the text beside them is selected. */

const SHOWN_MS = 1500;
const labels = new WeakMap();

function select(element) {
  const range = document.createRange();
  range.selectNodeContents(element);
  getSelection().removeAllRanges();
  getSelection().addRange(range);
}

document.addEventListener("click", async ({ target }) => {
  const button = target.closest("[data-copy]");
  if (!button) return;
  if (!labels.has(button)) labels.set(button, button.textContent);
  try {
    await navigator.clipboard.writeText(button.dataset.copy);
    button.textContent = "Copied";
  } catch {
    select(button.previousElementSibling);
    button.textContent = "Selected: copy it now";
  }
  setTimeout(() => {
    button.textContent = labels.get(button);
  }, SHOWN_MS);
});
