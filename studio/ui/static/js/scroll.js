/* Buttons with data-scroll: what that selects comes into view, as soon as it is on the page; gently with data-gently. */

const PATIENCE_MS = 3000;

function bring(selector, behavior, until) {
  const place = document.querySelector(selector);
  if (place?.offsetParent) place.scrollIntoView({ block: "center", behavior });
  else if (performance.now() < until) requestAnimationFrame(() => bring(selector, behavior, until));
}

document.addEventListener("click", ({ target }) => {
  const button = target.closest("[data-scroll]");
  if (!button) return;
  const still = !("gently" in button.dataset) || matchMedia("(prefers-reduced-motion: reduce)").matches;
  bring(button.dataset.scroll, still ? "auto" : "smooth", performance.now() + PATIENCE_MS);
});
