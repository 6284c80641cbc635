/* Replacements for the functions that Gradio 6.31 compiles from strings, so that the page's policy can forbid eval.

   Its HTML component calls Function() three times: for the Handlebars form of its template, for the template literal that
   Handlebars produces, and for js_on_load. For our components these strings are always the same, so their functions are written here.
   Any other string reaches the browser's Function, which the policy blocks. See docs/decisions/076-no-eval-on-the-page.md. */

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
  const index = names.indexOf(property[1]);
  if (property[1] && index < 0) return null;
  return (...values) => (property[1] ? String(values[index]) : "");
}

const compile = (target, args) => known(args.slice(0, -1).map(String), String(args.at(-1)).trim()) ?? Reflect.construct(target, args);

window.Function = new Proxy(window.Function, {
  apply: (target, _, args) => compile(target, args),
  construct: (target, args) => compile(target, args),
});
