/* Changes of the job queue: a small route of our own is asked for their number, and handlers are called only after a change.

   A tick of Gradio 6.31's Timer sends two requests and keeps the page's thread busy for half of each second, also where nothing has changed. */

import { panelIn, panelOf } from "./panels.js";

const CHANGES = new URL("../../changes", import.meta.url);
const EVERY_MS = 1000;
/* While the user waits for a job of this page: generating takes 0.4 s with the shipped base. */
const FOLLOWING_MS = 200;
const HIDDEN_MS = 5000;

let seen = null;
let timer = null;
/* Panel of a part that follows jobs -> the jobs and the number for which it was last called. */
const called = new WeakMap();

function follow(number) {
  const followed = [...document.querySelectorAll("[data-followed]")];
  for (const each of followed) {
    const panel = panelOf(each);
    const key = `${each.dataset.followed} ${number}`;
    if (!panel || called.get(panel.element) === key) continue;
    called.set(panel.element, key);
    panel.trigger("changed", {});
  }
  return followed.length > 0;
}

async function look() {
  clearTimeout(timer);
  let following = false;
  try {
    const response = await fetch(CHANGES, { cache: "no-store" });
    const page = panelIn("#changes");
    if (response.ok && page) {
      const number = await response.text();
      if (number !== seen) page.trigger("changed", {});
      seen = number;
      following = follow(number);
    }
  } catch {
    // away.js says so.
  }
  clearTimeout(timer);
  timer = setTimeout(look, document.hidden ? HIDDEN_MS : following ? FOLLOWING_MS : EVERY_MS);
}

document.addEventListener("visibilitychange", () => {
  if (!document.hidden) look();
});

look();
