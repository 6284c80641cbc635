/* What is typed while the server answers, or while a tab opens, stays: it is newer than what Gradio's page then fills in. See gradio_scripts.toml. */

const UPDATE = "update";
const KIND = "__type__";
const typedAt = new Map();
const idOf = new Map();

function fieldId(number) {
  if (!idOf.size) {
    const fields = window.gradio_config.components.filter(({ type }) => type !== "html");
    for (const { id, props } of fields) idOf.set(id, props.elem_id || `component-${id}`);
  }
  return idOf.get(number);
}

const withoutValue = (update) =>
  update?.[KIND] === UPDATE ? Object.fromEntries(Object.entries(update).filter(([name]) => name !== "value")) : undefined;

/** Whether the user typed into the component with this number after a time. */
const typedSince = (number, time) => typedAt.get(fieldId(number)) > time;

/** The values of an answer for the components with these numbers, without those of fields in which the user typed after the call was sent. */
const keepTyped = (numbers, values, sent) => values.map((value, index) => (typedSince(numbers[index], sent) ? withoutValue(value) : value));

document.addEventListener(
  "input",
  (event) => {
    for (const { id } of event.composedPath()) if (id) typedAt.set(id, performance.now());
  },
  true,
);

window.studio = { keepTyped, typedSince };
