/* Drafts: text that is typed but not saved yet, kept in this browser so that it survives a reload, a restart of the studio and a crash.

   A draft is {value, base, at}: the value typed, the saved value that the typing began from, and the time. Drafts are kept per studio and owner,
   expire after 14 days and take at most 2 MB together. Passwords and tokens are never kept: `mayKeep` is false for their fields.
   Without browser storage every function still works, and nothing is kept. */

import { hideBanner, showBanner } from "./banner.js";

const DAYS = 14;
const LARGEST_BYTES = 2_000_000;
const BYTES_PER_CHARACTER = 2;
const SECRET = "input[type=password], [autocomplete=current-password], [autocomplete=new-password], #token, #token *";
const FULL = "This browser keeps at most 2 MB of unsaved text, so the newest is not kept. Save it, or keep this page open.";

/* Random for each studio and owner; the server writes it into the page. */
const owner = document.querySelector("script[data-drafts]")?.dataset.drafts ?? "";
const PREFIX = `studio-draft:${owner}:`;

const storage = usableStorage();
let cleared = false;

function usableStorage() {
  if (!owner) return null;
  try {
    localStorage.setItem("studio-probe", "1");
    localStorage.removeItem("studio-probe");
    return localStorage;
  } catch {
    return null;
  }
}

function read(name) {
  try {
    const draft = JSON.parse(storage.getItem(name));
    return typeof draft?.at === "number" && "value" in draft ? draft : null;
  } catch {
    return null;
  }
}

const names = () => Object.keys(storage ?? {}).filter((name) => name.startsWith(PREFIX));

const bytes = (name) => BYTES_PER_CHARACTER * (name.length + (storage.getItem(name)?.length ?? 0));

/* Of every owner: a visitor who does not come back cannot drop their own. */
function dropExpired() {
  const oldest = Date.now() - DAYS * 86_400_000;
  for (const name of Object.keys(storage ?? {})) if (name.startsWith("studio-draft:") && !(read(name)?.at > oldest)) storage.removeItem(name);
}

function store(name, text) {
  const others = names().filter((each) => each !== name);
  const used = others.reduce((sum, each) => sum + bytes(each), 0);
  if (used + BYTES_PER_CHARACTER * (name.length + text.length) > LARGEST_BYTES) return false;
  try {
    storage.setItem(name, text);
    return true;
  } catch {
    return false;
  }
}

export const drafts = {
  /** Whether this browser keeps drafts at all. */
  kept: Boolean(storage),

  /** Keep a draft. `base` is the saved value that the typing began from. False where it is not kept; the page says so if it does not fit. */
  put(key, value, base = null) {
    if (!storage || cleared) return false;
    const fits = store(PREFIX + key, JSON.stringify({ value, base, at: Date.now() }));
    if (fits) {
      hideBanner("drafts");
    } else {
      // An older draft of the same text would come back in place of the newest.
      drafts.drop(key);
      showBanner("drafts", FULL, [["Close", () => {}]]);
    }
    return fits;
  },

  /** {value, base, at}, or null. */
  get(key) {
    return storage && read(PREFIX + key);
  },

  drop(key) {
    storage?.removeItem(PREFIX + key);
    hideBanner("drafts");
  },

  /** [[key, {value, base, at}], ...] of the drafts whose key begins with `prefix`, the oldest first. */
  entries(prefix = "") {
    const found = names().map((name) => [name.slice(PREFIX.length), read(name)]);
    return found.filter(([key, draft]) => draft && key.startsWith(prefix)).toSorted(([, one], [, other]) => one.at - other.at);
  },

  /** Drop every draft of this owner on sign-out; from then on this page keeps none. */
  clear() {
    for (const name of names()) storage.removeItem(name);
    cleared = true;
  },
};

/** Whether what is typed into this field may be kept. */
export const mayKeep = (field) => !field.matches(SECRET) && !field.closest("[data-secret]");

dropExpired();

document.addEventListener(
  "click",
  ({ target }) => {
    if (target.closest("a[href*='/logout']")) drafts.clear();
  },
  true,
);
