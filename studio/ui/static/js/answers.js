/* Answers that come late: Gradio's page takes whatever comes last. What was typed since the call was sent, or while a tab opens, is newer than the
   answer, and so is the answer to a later call. See gradio_scripts.toml. */

const UPDATE = "update";
const KIND = "__type__";
const VALUE = "value";

const typedAt = new Map();
/* Component and property -> when the call was sent whose answer set it. */
const setAt = new Map();
const idOf = new Map();

function fieldId(number) {
  if (!idOf.size) {
    const fields = window.gradio_config.components.filter(({ type }) => type !== "html");
    for (const { id, props } of fields) idOf.set(id, props.elem_id || `component-${id}`);
  }
  return idOf.get(number);
}

const typedSince = (number, time) => typedAt.get(fieldId(number)) > time;

/** Properties of the component with this number, without its value if the user typed into it after a time. */
const untyped = (number, { value, ...others }, time) => (value === undefined || typedSince(number, time) ? others : { value, ...others });

function takes(number, name, sent) {
  const property = `${number} ${name}`;
  if (setAt.get(property) > sent || (name === VALUE && typedSince(number, sent))) return false;
  setAt.set(property, sent);
  return true;
}

function current(number, value, sent) {
  if (value?.[KIND] !== UPDATE) return value !== undefined && takes(number, VALUE, sent) ? value : undefined;
  return Object.fromEntries(Object.entries(value).filter(([name]) => name === KIND || takes(number, name, sent)));
}

/** The values of an answer for the components with these numbers, without what is newer on the page than the call. */
const stillCurrent = (numbers, values, sent) => values.map((value, index) => current(numbers[index], value, sent));

document.addEventListener(
  "input",
  (event) => {
    for (const { id } of event.composedPath()) if (id) typedAt.set(id, performance.now());
  },
  true,
);

window.studio = { stillCurrent, untyped };
