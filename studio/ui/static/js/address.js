/* Addresses: each tab, dataset, run and image has one, so that Back, reload and a link to a colleague work.

   The page opens by one event of the panel #place: the server fills every tab for the address and the drafts. After that the address follows
   what is shown. Inside the frame of a Space the Hub is asked to follow too: https://huggingface.co/docs/hub/spaces-embed */

import { hideBanner, showBanner } from "./banner.js";
import { formDrafts, imageChanged, keepForms, lastDataset, placeChanged, watchForms } from "./forms.js";
import { pickedImage } from "./lightbox.js";
import { onAttach, panelOf } from "./panels.js";
import { place, shownImage, shownTab, watching } from "./place.js";

const HUB = "https://huggingface.co";
const PARTS = ["tab", "dataset", "run", "image"];
const OPENED_AFTER_MS = 300;
const LONGEST_OPENING_MS = 5000;
const SCROLL_TIMEOUT_MS = 3000;
const SCROLL_KEY = "studio-scroll";

/** {tab, dataset, run, image} of the address, as far as it names them. */
function named() {
  const found = new URLSearchParams(location.search);
  return Object.fromEntries(PARTS.map((part) => [part, found.get(part)]).filter(([, value]) => value));
}

let sent = 0;
/* The number of the event that the page waits for, 0 before the first: until its answer is shown the address stays as it is. Else null. */
let waiting = 0;
/* Whether the page was opened: from then on the address follows it and drafts are kept. */
let begun = false;
/* The id of the image that the user chose from the history, until it is shown. */
let picked = "";
let before = {};
let image = "";

function query() {
  const found = new URLSearchParams(location.search);
  for (const part of PARTS) found.delete(part);
  const { dataset, run, published } = place();
  const tab = shownTab();
  const shown = { generate: { image: shownImage() }, dataset: { dataset }, train: { dataset, run: watching() ? run : "" }, publish: { run: published } }[tab];
  if (tab !== "generate" || shown.image) found.set("tab", tab);
  for (const [part, value] of Object.entries(shown)) if (value) found.set(part, value);
  return found;
}

function follow(replace = false) {
  if (waiting !== null) return;
  const found = query();
  if (found.toString() === new URLSearchParams(location.search).toString()) return;
  const text = found.toString();
  const address = `${location.pathname}${text && "?"}${text}${location.hash}`;
  if (replace) {
    history.replaceState(null, "", address);
  } else {
    history.pushState(null, "", address);
    hideBanner("address");
  }
  if (window.parent === window) return;
  const own = new URLSearchParams([...found].filter(([name]) => !name.startsWith("__")));
  window.parent.postMessage({ queryString: own.toString(), hash: location.hash }, HUB);
}

function ask(event, data) {
  const number = ++sent;
  waiting = number;
  panelOf(document.querySelector("#place i")).trigger(event, { address: named(), number, ...data });
  setTimeout(() => {
    delete document.documentElement.dataset.opening;
    // An answer that never comes must not stop the address from following; the first one decides what it is.
    if (begun && waiting === number) waiting = null;
  }, LONGEST_OPENING_MS);
}

function placed() {
  const now = { ...place() };
  placeChanged(before, now);
  before = now;
  if (waiting === null || Number(now.answers) !== waiting) return follow();
  if (now.message) showBanner("address", now.message, [["Close", () => {}]]);
  settleOnce(waiting, now.message ? "" : (named().tab ?? ""), performance.now() + LONGEST_OPENING_MS);
}

/* Gradio shows the tab and fills the fields a moment after the answer. */
function settleOnce(number, tab, until) {
  if (waiting !== number) return;
  if (tab && shownTab() !== tab && performance.now() < until) setTimeout(() => settleOnce(number, tab, until), OPENED_AFTER_MS);
  else setTimeout(() => settle(number), OPENED_AFTER_MS);
}

function settle(number) {
  if (waiting !== number) return;
  const first = !begun;
  begun = true;
  waiting = null;
  delete document.documentElement.dataset.opening;
  if (first) {
    keepForms();
    watchImage();
    scrollBack();
  }
  follow(true);
}

onAttach("#place", (element) => {
  new MutationObserver(placed).observe(element, { childList: true, subtree: true, attributes: true, characterData: true });
  watchForms();
  ask("opened", { drafts: formDrafts(named()), dataset: lastDataset() ?? "" });
});

window.addEventListener("popstate", () => {
  hideBanner("address");
  if (!document.querySelector("#place i")) return;
  const { dataset, run } = place();
  ask("moved", { dataset, run, image: shownImage() });
  document.querySelector(`[role=tab][data-tab-id="${named().tab ?? "generate"}"]`)?.click();
});

document.addEventListener("click", ({ target }) => {
  if (!target.closest("[data-lightbox=pick]")) return;
  picked = pickedImage();
  // It may be the one that is shown.
  if (picked === shownImage() && waiting === null) imageChanged(true);
});

function watchImage() {
  image = shownImage();
  const shown = document.querySelector("#stack-image");
  if (!shown) return;
  new MutationObserver(() => {
    if (shownImage() === image) return;
    image = shownImage();
    const chosen = Boolean(image) && image === picked;
    picked = "";
    if (waiting === null) imageChanged(chosen);
    follow(!chosen);
  }).observe(shown, { childList: true, subtree: true, attributes: true, attributeFilter: ["src"] });
}

/* The tab buttons stand outside of every panel, so they are watched from the page's own root. */
new MutationObserver(() => setTimeout(follow, 0)).observe(document.documentElement, {
  subtree: true,
  attributes: true,
  attributeFilter: ["aria-selected"],
});

/* Scroll position of this browser tab, for a reload. */

window.addEventListener("scroll", () => {
  if (waiting !== null) return;
  try {
    sessionStorage.setItem(SCROLL_KEY, JSON.stringify([location.search, Math.round(window.scrollY)]));
  } catch {
    // Without storage a reload begins at the top.
  }
});

function scrollBack() {
  let kept = null;
  try {
    kept = JSON.parse(sessionStorage.getItem(SCROLL_KEY));
  } catch {
    return;
  }
  if (!Array.isArray(kept) || kept[0] !== location.search) return;
  const until = performance.now() + SCROLL_TIMEOUT_MS;
  let moved = false;
  for (const event of ["wheel", "touchstart", "keydown"]) addEventListener(event, () => (moved = true), { once: true, passive: true });
  const step = () => {
    if (moved) return;
    window.scrollTo({ top: kept[1], behavior: "instant" });
    if (Math.abs(window.scrollY - kept[1]) > 2 && performance.now() < until) requestAnimationFrame(step);
  };
  step();
}

history.scrollRestoration = "manual";
/* The tab that Gradio shows first stays hidden until the one of the address is there. */
if ((named().tab ?? "generate") !== "generate") document.documentElement.dataset.opening = "";
