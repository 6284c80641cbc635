/* Entry point of the page's scripts. */

import "./compiled.js";
import "./about.js";
import "./address.js";
import "./answers.js";
import "./away.js";
import "./captions.js";
import "./cards.js";
import "./changes.js";
import "./copy.js";
import "./drafts.js";
import "./drop.js";
import "./generate.js";
import "./lightbox.js";
import "./masks.js";
import "./queue.js";
import "./scroll.js";
import "./settings.js";

/* Gradio 6.31 measures its tabs once. On a slow computer the style sheet is not loaded by then, and all tabs move into the overflow menu. */
const MEASURE_AGAIN_MS = [50, 600, 2500];

function measureTabs() {
  for (const wait of MEASURE_AGAIN_MS) setTimeout(() => window.dispatchEvent(new Event("resize")), wait);
}

const painted = new MutationObserver(() => {
  if (!document.querySelector(".rooms")) return;
  painted.disconnect();
  measureTabs();
});
painted.observe(document.documentElement, { childList: true, subtree: true });
