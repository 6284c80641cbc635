/* What is typed while the server answers stays: it is newer than the answer of a call that was sent before. */

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

/** For Gradio's page, see gradio_scripts.toml: `values` of the components with these numbers, without those of fields in which the user typed after
    the call was sent. */
const keepTyped = (numbers, values, sent) => values.map((value, index) => (typedAt.get(fieldId(numbers[index])) > sent ? withoutValue(value) : value));

document.addEventListener(
  "input",
  (event) => {
    for (const { id } of event.composedPath()) if (id) typedAt.set(id, performance.now());
  },
  true,
);

window.studio = { keepTyped };
