/* Panels: parts of the page whose HTML comes from a template, and whose events call handlers in Python.

   A button with data-click="event" or a field with data-change="event" calls the handler of that event with its data attributes and its
   value, or the value of the field that data-with selects. data-confirm asks first. The second click of a double click is ignored, because by then
   another row may stand there; a button with data-repeat takes each. */

const panels = new Map();
const listeners = [];

/** Register a panel of the page: `trigger` calls a handler, `server` and `upload` are Gradio's. */
export function attach(element, panel) {
  for (const known of panels.keys()) if (!known.isConnected) panels.delete(known);
  panels.set(element, panel);
  for (const [selector, action] of listeners) if (element.closest(selector)) action(element);
}

/** Call `action(element)` for every panel inside an element that matches `selector`, now and later. */
export function onAttach(selector, action) {
  listeners.push([selector, action]);
  for (const element of panels.keys()) if (element.closest(selector)) action(element);
}

/** {element, trigger, server, upload} of the panel that contains a node. */
export function panelOf(node) {
  for (let element = node; element; element = element.parentElement) if (panels.has(element)) return { element, ...panels.get(element) };
  return null;
}

/** The panel inside of an element that matches `selector`. */
export function panelIn(selector) {
  const element = [...panels.keys()].find((each) => each.isConnected && each.closest(selector));
  return element ? { element, ...panels.get(element) } : null;
}

function send(kind, event) {
  const source = event.target.closest(`[data-${kind}]`);
  const panel = source && panelOf(source);
  if (kind === "click" && event.detail > 1 && source && !("repeat" in source.dataset)) return;
  if (!panel || (source.dataset.confirm && !confirm(source.dataset.confirm))) return;
  const field = source.dataset.with ? panel.element.querySelector(source.dataset.with) : source;
  const value = field.type === "checkbox" ? field.checked : field.value;
  panel.trigger(source.dataset[kind], { ...source.dataset, value });
}

document.addEventListener("click", (event) => send("click", event));
document.addEventListener("change", (event) => send("change", event));
