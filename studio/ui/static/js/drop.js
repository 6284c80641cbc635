/* Files that are dropped anywhere on the page, or chosen, for the part of the page that is visible: images of a dataset, or an image whose
   settings are restored. Files dropped on an upload field are left to that field.

   Images travel a few at a time with a bar; the studio then imports all of them in one job. */

import { onAttach, panelOf } from "./panels.js";

const AT_ONCE = 3;
const AGAIN_MS = 500;
const RESTORE = { visible: "#base-image", upload: "#restore" };
/* The zone of a new dataset is on top while it is shown. */
const IMAGE_ZONES = ["#drop-images", "#add-images"];

const visible = (selector) => document.querySelector(selector)?.offsetParent;

function acceptsDrop(event) {
  const files = [...(event.dataTransfer?.items ?? [])].filter((item) => item.kind === "file");
  if (!files.length || !event.target.closest(".gradio-container") || event.target.closest("input[type=file], .file-drop")) return null;
  if (visible(RESTORE.visible)) return files.some((item) => item.type === "image/png") ? RESTORE : null;
  const zones = event.target.closest("#dataset-work") ? IMAGE_ZONES.toReversed() : IMAGE_ZONES;
  const zone = zones.map((selector) => document.querySelector(selector)).find((each) => each?.offsetParent);
  return zone && { zone };
}

function restore(files) {
  // Gradio 6.31 puts the field before its button.
  const field = document.querySelector(RESTORE.upload)?.previousElementSibling;
  if (!field?.matches("input[type=file]")) return;
  const carrier = new DataTransfer();
  for (const file of files.slice(0, 1)) carrier.items.add(file);
  field.files = carrier.files;
  field.dispatchEvent(new Event("change", { bubbles: true }));
}

const asFile = (entry) => new Promise((resolve, reject) => entry.file(resolve, reject));
const batch = (reader) => new Promise((resolve, reject) => reader.readEntries(resolve, reject));

/* A reader gives 100 entries at a time. */
async function entriesOf(reader, found = []) {
  const more = await batch(reader);
  return more.length ? entriesOf(reader, [...found, ...more]) : found;
}

async function filesIn(entry) {
  if (entry.isFile) return [await asFile(entry)];
  const entries = await entriesOf(entry.createReader());
  return (await Promise.all(entries.map(filesIn))).flat();
}

/** {files, name}: what was dropped, and the name of the folder or archive if it was one. */
async function dropped(transfer) {
  // Entries can be read only before the event ends.
  const items = [...transfer.items].filter((item) => item.kind === "file").map((item) => [item.webkitGetAsEntry?.(), item.getAsFile()]);
  const found = await Promise.all(items.map(([entry, file]) => (entry?.isDirectory ? filesIn(entry) : [file])));
  const files = found.flat().filter(Boolean);
  return { files, name: items.length === 1 && items[0][0]?.isDirectory ? items[0][0].name : archive(files) };
}

function archive(files) {
  return files.length === 1 && /\.zip$/i.test(files[0].name) ? files[0].name.slice(0, -4) : "";
}

/** Zone -> {text, resend} of each upload that failed and was not tried again. */
const unsent = new WeakMap();
const busy = new Set();

function show(zone, text, share, failed = false) {
  const sending = zone.querySelector(".sending");
  sending.hidden = false;
  sending.querySelector("b").textContent = text;
  sending.querySelector(".bar i").style.width = `${100 * share}%`;
  sending.querySelector(".bar").setAttribute("aria-valuenow", Math.round(100 * share));
  sending.querySelector(".again").hidden = !failed;
}

const failedIn = (zone) => unsent.get(zone) ?? [];

function showFailed(zone) {
  const failed = failedIn(zone);
  if (failed.length) show(zone, failed.map(({ text }) => text).join(" "), 0, true);
}

function tryAgain(zone) {
  const failed = failedIn(zone);
  unsent.delete(zone);
  for (const { resend } of failed) resend();
}

/** Upload the files and hand them to the panel's `import_images`, with the dataset that was open when they were chosen. */
async function send(zone, files, name, dataset = zone.querySelector("[data-dataset]")?.dataset.dataset ?? "") {
  if (!files.length) return;
  if (busy.has(zone)) {
    // After the upload that runs now.
    setTimeout(() => send(zone, files, name, dataset), AGAIN_MS);
    return;
  }
  busy.add(zone);
  const { upload, trigger } = panelOf(zone.querySelector(".sending"));
  const count = `${files.length} ${files.length === 1 ? "file" : "files"}`;
  const paths = Array(files.length);
  let next = 0;
  let done = 0;
  let failed = null;
  const travel = async () => {
    if (next >= files.length || failed) return null;
    const index = next++;
    try {
      paths[index] = (await upload(files[index])).path;
    } catch (error) {
      failed ??= files[index];
      throw error;
    }
    if (failed) return null;
    show(zone, `Uploading ${count}: ${++done} of ${files.length}`, done / files.length);
    return travel();
  };
  show(zone, `Uploading ${count}`, 0);
  try {
    await Promise.all(Array.from({ length: AT_ONCE }, travel));
    show(zone, `Reading ${count}`, 1);
    trigger("import_images", { paths, name, dataset });
  } catch {
    const text = failed ? `Not uploaded: “${failed.name}” did not arrive.` : "Not uploaded.";
    unsent.set(zone, [...failedIn(zone), { text, resend: () => send(zone, files, name, dataset) }]);
  } finally {
    busy.delete(zone);
  }
  showFailed(zone);
}

/* The panel is painted again when the list of images changes. */
onAttach(IMAGE_ZONES.join(), (element) => {
  const zone = element.closest(IMAGE_ZONES.join());
  const painted = () => {
    if (!busy.has(zone) && zone.querySelector(".sending")?.hidden) showFailed(zone);
  };
  new MutationObserver(painted).observe(element, { childList: true, subtree: true });
});

/* The bar of the import, or its result, follows that of the upload. */
for (const selector of ["#dataset-progress", "#dataset-message", "#new-dataset-message"]) {
  onAttach(selector, (element) => {
    const hide = () => {
      if (!element.textContent.trim()) return;
      for (const zone of document.querySelectorAll(IMAGE_ZONES.join())) if (!busy.has(zone) && !failedIn(zone).length) zone.querySelector(".sending").hidden = true;
    };
    new MutationObserver(hide).observe(element, { childList: true, subtree: true, characterData: true });
  });
}

document.addEventListener("click", ({ target }) => {
  if (target.closest(".sending .again")) tryAgain(target.closest(IMAGE_ZONES.join()));
});

document.addEventListener("dragover", (event) => {
  if (acceptsDrop(event)) event.preventDefault();
});

document.addEventListener("drop", async (event) => {
  const target = acceptsDrop(event);
  if (!target) return;
  event.preventDefault();
  if (target === RESTORE) return restore([...event.dataTransfer.files]);
  try {
    const { files, name } = await dropped(event.dataTransfer);
    if (files.length) send(target.zone, files, name);
    else if (!busy.has(target.zone)) show(target.zone, "There is no file in this folder.", 0);
  } catch {
    show(target.zone, "The dropped files cannot be read.", 0);
  }
});

document.addEventListener("change", ({ target }) => {
  if (!target.matches("[data-images]")) return;
  const files = [...target.files];
  const folder = target.webkitdirectory ? files[0]?.webkitRelativePath.split("/")[0] : "";
  target.value = "";
  send(target.closest(IMAGE_ZONES.join()), files, folder || archive(files));
});
