/* The corner with settings and help: the theme, kept in this browser, and Gradio's view of the API. */

const KEY = "lora-studio-theme";
const THEMES = new Set(["system", "light", "dark"]);
const systemIsDark = matchMedia("(prefers-color-scheme: dark)");

// Storage may be forbidden; the choice then lasts until the page is left.
const stored = () => {
  try {
    return localStorage.getItem(KEY);
  } catch {
    return null;
  }
};
const store = (theme) => {
  try {
    localStorage.setItem(KEY, theme);
  } catch {
    return;
  }
};

const requested = new URLSearchParams(location.search).get("__theme");
let theme = [requested, stored()].find((each) => THEMES.has(each)) ?? "system";

function apply() {
  const dark = theme === "dark" || (theme === "system" && systemIsDark.matches);
  if (document.body.classList.contains("dark") !== dark) document.body.classList.toggle("dark", dark);
  const choice = document.querySelector(`#about input[value=${theme}]`);
  if (choice) choice.checked = true;
}

const box = () => document.querySelector("#about details");

document.addEventListener("change", ({ target }) => {
  if (!target.matches("#about input")) return;
  theme = target.value;
  store(theme);
  // Else the address would win at the next reload.
  const address = new URL(location.href);
  address.searchParams.delete("__theme");
  history.replaceState(history.state, "", address);
  apply();
});

document.addEventListener("click", ({ target }) => {
  if (target.closest("[data-about=api]")) document.querySelector("footer .show-api")?.click();
  if (box()?.open && (!target.closest("#about") || target.closest("[data-about]"))) box().open = false;
});

document.addEventListener("keydown", ({ key }) => {
  if (key !== "Escape" || !box()?.open) return;
  box().open = false;
  box().querySelector("summary").focus();
});

systemIsDark.addEventListener("change", apply);

// Gradio 6.31 sets the class when it mounts the page, from the address or the system, and renders the corner later.
new MutationObserver(apply).observe(document.body, { attributes: true, attributeFilter: ["class"] });
const painted = new MutationObserver(() => {
  if (!box()) return;
  painted.disconnect();
  apply();
});
painted.observe(document.body, { childList: true, subtree: true });
