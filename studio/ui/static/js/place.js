/* What the page shows: its tab, the open dataset, the runs of the Train and Publish tabs, and the image with LoRAs. */

const TABS = ["generate", "dataset", "train", "publish"];

/** {dataset, run, published, message, answers} as the server last sent it; see templates/frame.html. */
export const place = () => document.querySelector("#place i")?.dataset ?? {};

export const shownTab = () => TABS.find((tab) => document.querySelector(`#tab-${tab}`)?.offsetParent) ?? TABS[0];

/** Id of the image of the history that is shown with LoRAs; empty for one that ships with the studio. */
export function shownImage() {
  const image = document.querySelector("#stack-image img[src*='/file/image/']");
  return image ? decodeURIComponent(new URL(image.src).pathname.split("/").at(-1)) : "";
}

/** Whether the Train tab shows the run, not the form. */
export const watching = () => Boolean(document.querySelector('#train-places [role=tab][data-tab-id="watch"][aria-selected=true]'));
