/* Answers that come late: Gradio's page takes whatever comes last. What was typed since the call was sent, or while a tab opens, is newer than the
   answer. So is the answer to a later call of the same turn: the server handles these in the order they were sent (Page.turn), but an answer also
   waits for the confirmation of its call. See gradio_scripts.toml. */

const UPDATE = "update";
const KIND = "__type__";
const VALUE = "value";
const TURN = "turn";

const typedAt = new Map();
/* Turn, component and property -> when the call was sent whose answer set it. */
const setAt = new Map();

/** Number of a component -> its id on the page and whether it is that of a turn. */
const components = new Map();

function component(number) {
  if (!components.size) {
    for (const { id, type, props } of window.gradio_config.components) {
      const turn = [props.elem_classes ?? []].flat().includes(TURN);
      components.set(id, { field: type !== "html" && (props.elem_id || `component-${id}`), turn });
    }
  }
  return components.get(number) ?? {};
}

const typedSince = (number, time) => typedAt.get(component(number).field) > time;

/** Properties of the component with this number, without its value if the user typed into it after a time. */
const untyped = (number, { value, ...others }, time) => (value === undefined || typedSince(number, time) ? others : { value, ...others });

function takes(number, name, sent, turns) {
  if (name === VALUE && typedSince(number, sent)) return false;
  const properties = turns.map((turn) => `${turn} ${number} ${name}`);
  if (properties.some((property) => setAt.get(property) > sent)) return false;
  for (const property of properties) setAt.set(property, sent);
  return true;
}

function current(number, value, sent, turns) {
  if (value?.[KIND] !== UPDATE) return value !== undefined && takes(number, VALUE, sent, turns) ? value : undefined;
  return Object.fromEntries(Object.entries(value).filter(([name]) => name === KIND || takes(number, name, sent, turns)));
}

/** The values of an answer for the components with these numbers, without what is newer on the page. */
function stillCurrent(numbers, values, sent) {
  const turns = numbers.filter((number) => component(number).turn);
  return values.map((value, index) => current(numbers[index], value, sent, turns));
}

document.addEventListener(
  "input",
  (event) => {
    for (const { id } of event.composedPath()) if (id) typedAt.set(id, performance.now());
  },
  true,
);

window.studio = { stillCurrent, untyped };
