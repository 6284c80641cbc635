/* While the studio does not answer: a banner, actions that say why they are disabled, and progress marked as old.

   A request that fails is checked with a small route of our own, which is asked each second until it answers. Gradio 6.31 then reloads the page;
   it is reloaded here too if the studio was restarted, because the server no longer knows this page. Gradio's own message is hidden. */

import { hideBanner, showBanner } from "./banner.js";
import { drafts } from "./drafts.js";

const ALIVE = new URL("../../alive", import.meta.url);
const ASK_AGAIN_MS = 1000;
const TIMEOUT_MS = 8000;
/* A proxy's answers for a server that is not there. */
const NOT_THERE = new Set([502, 503, 504]);

const AWAY = "The studio is not answering.";
const KEPT = `${AWAY} What you type is kept in this browser and restored when it is back.`;
const NOT_KEPT = `${AWAY} This browser keeps no drafts: copy what you typed before the page reloads.`;
const DISABLED = "The studio is not answering; this works again when it is back.";

/* Buttons that work without the studio. */
const LOCAL = "[role=tab], .label-wrap, .overflow-menu button, #banners button, [data-large], [data-copy], .show-mask, .lightbox .icon, [data-lightbox=compare]";
const ACTIONS = `button:not(${LOCAL}), input[data-change], input[type=file], a[download]`;

const original = window.fetch.bind(window);
const page = document.documentElement;
let started = null;
let asking = false;
let leaving = false;
const disabled = new Map();

/** The random name of the running server; null if it does not answer. */
async function answer() {
  try {
    const response = await original(ALIVE, { cache: "no-store", signal: AbortSignal.timeout(TIMEOUT_MS) });
    // A login page is an answer too: the session ended.
    if (response.status === 401) return "";
    const name = response.ok ? await response.text() : "";
    return /^[0-9a-f]{16}$/.test(name) ? name : null;
  } catch {
    return null;
  }
}

function disableActions() {
  for (const action of document.querySelectorAll(ACTIONS)) {
    if (disabled.has(action)) continue;
    disabled.set(action, [action.disabled, action.title]);
    action.disabled = true;
    action.title = DISABLED;
    action.setAttribute("aria-disabled", "true");
  }
}

function enableActions() {
  for (const [action, [before, title]] of disabled) {
    action.disabled = before;
    action.title = title;
    action.removeAttribute("aria-disabled");
  }
  disabled.clear();
}

function stop() {
  delete page.dataset.suspect;
  asking = false;
}

async function askUntilBack() {
  const now = await answer();
  if (now === null) {
    disableActions();
    setTimeout(askUntilBack, ASK_AGAIN_MS);
  } else if (now === started) {
    delete page.dataset.away;
    hideBanner("away");
    enableActions();
    stop();
  } else {
    location.reload();
  }
}

async function suspect() {
  if (asking || leaving) return;
  asking = true;
  page.dataset.suspect = "";
  if ((await answer()) !== null || leaving) {
    stop();
    return;
  }
  page.dataset.away = "";
  showBanner("away", drafts.kept ? KEPT : NOT_KEPT);
  askUntilBack();
}

window.fetch = async (...request) => {
  try {
    const response = await original(...request);
    if (NOT_THERE.has(response.status) && new URL(response.url).origin === location.origin) suspect();
    return response;
  } catch (error) {
    if (error.name !== "AbortError") suspect();
    throw error;
  }
};

/* Gradio's message about a broken stream comes before any request fails. */
new MutationObserver((changes) => {
  for (const { addedNodes } of changes)
    for (const node of addedNodes) if (node.querySelector?.(".toast-body.error") ?? node.closest?.(".toast-body.error")) suspect();
}).observe(page, { childList: true, subtree: true });

document.addEventListener(
  "click",
  (event) => {
    if (!("away" in page.dataset) || !event.target.closest(ACTIONS)) return;
    event.preventDefault();
    event.stopImmediatePropagation();
  },
  true,
);

window.addEventListener("pagehide", () => {
  leaving = true;
});

window.addEventListener("pageshow", () => {
  leaving = false;
});

async function remember() {
  started = await answer();
}

remember();
