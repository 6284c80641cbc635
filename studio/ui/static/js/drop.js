/* What is dropped anywhere on the page goes into an upload button, while the part of the page that it belongs to is in sight.
   What is dropped on an upload of its own is left to that. */

const ZONES = [
  { inSight: "#base-plate", upload: "#restore", takes: (item) => item.type === "image/png" },
  { inSight: "#captions", upload: "#add-images", takes: () => true },
];

function zoneFor(event) {
  const files = [...(event.dataTransfer?.items ?? [])].filter((item) => item.kind === "file");
  if (!event.target.closest(".gradio-container") || event.target.closest("input[type=file], .file-drop")) return null;
  return ZONES.find(({ inSight, takes }) => document.querySelector(inSight)?.offsetParent && files.some(takes));
}

document.addEventListener("dragover", (event) => {
  if (zoneFor(event)) event.preventDefault();
});

document.addEventListener("drop", (event) => {
  const zone = zoneFor(event);
  // Gradio 6.31 lays the field beside its button.
  const field = zone && document.querySelector(zone.upload)?.parentElement.querySelector("input[type=file]");
  if (!field) return;
  event.preventDefault();
  const carrier = new DataTransfer();
  const dropped = [...event.dataTransfer.files];
  for (const file of field.multiple ? dropped : dropped.slice(0, 1)) carrier.items.add(file);
  field.files = carrier.files;
  field.dispatchEvent(new Event("change", { bubbles: true }));
});
