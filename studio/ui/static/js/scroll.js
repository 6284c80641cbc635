/* Buttons with data-scroll scroll the selected element into view as soon as it is on the page, smoothly with data-gently. */

const TIMEOUT_MS = 3000;

function scrollToElement(selector, behavior, until) {
  const element = document.querySelector(selector);
  if (element?.offsetParent) element.scrollIntoView({ block: "center", behavior });
  else if (performance.now() < until) requestAnimationFrame(() => scrollToElement(selector, behavior, until));
}

document.addEventListener("click", ({ target }) => {
  const button = target.closest("[data-scroll]");
  if (!button) return;
  const instant = !("gently" in button.dataset) || matchMedia("(prefers-reduced-motion: reduce)").matches;
  scrollToElement(button.dataset.scroll, instant ? "auto" : "smooth", performance.now() + TIMEOUT_MS);
});
