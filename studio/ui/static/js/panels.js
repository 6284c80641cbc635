/* Panels: parts of the page whose HTML comes from a template, and whose events go to handlers in Python.

   A button with data-click="event" or a field with data-change="event" calls the handler of that event with its data attributes and its
   value, or the value of the field that data-with selects. data-confirm asks first. */

const panels = new Map();
const arrivals = [];

/** A panel is on the page: `trigger` calls a handler, `server` and `upload` are Gradio's. */
export function attach(element, panel) {
  for (const known of panels.keys()) if (!known.isConnected) panels.delete(known);
  panels.set(element, panel);
  for (const [selector, action] of arrivals) if (element.closest(selector)) action(element);
}

/** Call `action(element)` for every panel inside of what `selector` finds. */
export function onAttach(selector, action) {
  arrivals.push([selector, action]);
  for (const element of panels.keys()) if (element.closest(selector)) action(element);
}

/** {trigger, server, upload} of the panel that a node lies in. */
export function panelOf(node) {
  for (let element = node; element; element = element.parentElement) if (panels.has(element)) return { element, ...panels.get(element) };
  return null;
}

function send(kind, event) {
  const hit = event.target.closest(`[data-${kind}]`);
  const panel = hit && panelOf(hit);
  if (!panel || (hit.dataset.confirm && !confirm(hit.dataset.confirm))) return;
  const field = hit.dataset.with ? panel.element.querySelector(hit.dataset.with) : hit;
  const value = field.type === "checkbox" ? field.checked : field.value;
  panel.trigger(hit.dataset[kind], { ...hit.dataset, value });
}

document.addEventListener("click", (event) => send("click", event));
document.addEventListener("change", (event) => send("change", event));
