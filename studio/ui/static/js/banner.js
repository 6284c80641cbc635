/* Banners: messages about the page as a whole, above everything else. They are shown without the studio, which may be away. */

const banners = new Map();

function list() {
  const known = document.querySelector("#banners");
  if (known) return known;
  const made = document.createElement("div");
  made.id = "banners";
  made.setAttribute("role", "status");
  document.body.append(made);
  return made;
}

function button(id, label, action) {
  const made = document.createElement("button");
  made.className = "tool";
  made.textContent = label;
  made.addEventListener("click", () => {
    hideBanner(id);
    action();
  });
  return made;
}

/** `choices` are [[label, action], ...]; each hides the banner. */
export function showBanner(id, text, choices = []) {
  const banner = banners.get(id) ?? document.createElement("div");
  const message = document.createElement("span");
  message.textContent = text;
  banner.replaceChildren(message, ...choices.map(([label, action]) => button(id, label, action)));
  banners.set(id, banner);
  if (!banner.isConnected) list().append(banner);
}

export function hideBanner(id) {
  banners.get(id)?.remove();
}
