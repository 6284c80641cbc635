/* The functions that Gradio 6.31 would compile from strings, so that the page's policy can forbid eval.

   Its HTML component calls Function() three times: for the Handlebars form of its template, for the template literal that
   Handlebars leaves, and for js_on_load. Of our components these strings are always the same, so their functions are written here.
   Any other string goes to the browser, whose policy refuses it. See docs/decisions/076-no-eval-on-the-page.md. */

import { attach } from "./panels.js";

const HOOK = "studio.attach(element, trigger, server, upload)";

const PLAIN_TEXT = /^return "([^"\\]*)";$/;
const PROPERTY = /^return `(?:\$\{(\w+)\})?`;$/;

function known(names, body) {
  if (body === HOOK) return (element, trigger, props, server, upload) => attach(element, { trigger, server, upload });
  const text = PLAIN_TEXT.exec(body);
  if (text) return () => text[1];
  const property = PROPERTY.exec(body);
  if (!property) return null;
  const place = names.indexOf(property[1]);
  if (property[1] && place < 0) return null;
  return (...values) => (property[1] ? String(values[place]) : "");
}

const compile = (target, given) => known(given.slice(0, -1).map(String), String(given.at(-1)).trim()) ?? Reflect.construct(target, given);

window.Function = new Proxy(window.Function, {
  apply: (target, _, given) => compile(target, given),
  construct: (target, given) => compile(target, given),
});
