/* Banners: messages about the page as a whole, above everything else. They are shown without the studio, which may be away. */

const banners = new Map();

function place() {
  const known = document.querySelector("#banners");
  if (known) return known;
  const made = document.createElement("div");
  made.id = "banners";
  made.setAttribute("role", "status");
  document.body.append(made);
  return made;
}

export function showBanner(id, text) {
  const banner = banners.get(id) ?? document.createElement("div");
  banner.textContent = text;
  banners.set(id, banner);
  if (!banner.isConnected) place().append(banner);
}

export function hideBanner(id) {
  banners.get(id)?.remove();
}
