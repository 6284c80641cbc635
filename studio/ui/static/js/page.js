/* The page as a whole. */

import "./compiled.js";
import "./captions.js";
import "./drop.js";
import "./generate.js";
import "./masks.js";
import "./queue.js";
import "./scroll.js";

/* Gradio 6.31 measures its tabs once; on a busy computer that is before the style is there, and they all land in a menu. */
const MEASURED_AGAIN_MS = [50, 600, 2500];

function measureTabs() {
  for (const wait of MEASURED_AGAIN_MS) setTimeout(() => window.dispatchEvent(new Event("resize")), wait);
}

const painted = new MutationObserver(() => {
  if (!document.querySelector(".rooms")) return;
  painted.disconnect();
  measureTabs();
});
painted.observe(document.documentElement, { childList: true, subtree: true });
