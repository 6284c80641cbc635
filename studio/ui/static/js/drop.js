/* Files dropped anywhere on the page go to the upload button of the visible zone. Files dropped on an upload field are left to that field. */

const ZONES = [
  { visible: "#base-image", upload: "#restore", accepts: (item) => item.type === "image/png" },
  { visible: "#captions", upload: "#add-images", accepts: () => true },
];

function zoneFor(event) {
  const files = [...(event.dataTransfer?.items ?? [])].filter((item) => item.kind === "file");
  if (!event.target.closest(".gradio-container") || event.target.closest("input[type=file], .file-drop")) return null;
  return ZONES.find(({ visible, accepts }) => document.querySelector(visible)?.offsetParent && files.some(accepts));
}

document.addEventListener("dragover", (event) => {
  if (zoneFor(event)) event.preventDefault();
});

document.addEventListener("drop", (event) => {
  const zone = zoneFor(event);
  // Gradio 6.31 puts the field beside its button.
  const field = zone && document.querySelector(zone.upload)?.parentElement.querySelector("input[type=file]");
  if (!field) return;
  event.preventDefault();
  const carrier = new DataTransfer();
  const dropped = [...event.dataTransfer.files];
  for (const file of field.multiple ? dropped : dropped.slice(0, 1)) carrier.items.add(file);
  field.files = carrier.files;
  field.dispatchEvent(new Event("change", { bubbles: true }));
});
