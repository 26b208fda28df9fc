// Files for the user to keep: a menu of forms, and the browser's own way to save what it is given.

import { attempt } from "./api.js";
import { chip, h, uniqueId } from "./dom.js";

export function saveFile(name, blob) {
  const address = URL.createObjectURL(blob);
  h("a", { href: address, download: name }).click();
  setTimeout(() => URL.revokeObjectURL(address), 10_000);
}

// The file behind a data URL; fetching one is not allowed everywhere.
export function blobOf(dataUrl) {
  const [head, data] = dataUrl.split(/,(.*)/s);
  const isBase64 = head.endsWith(";base64");
  const text = isBase64 ? atob(data) : decodeURIComponent(data);
  const parts = isBase64 ? Uint8Array.from(text, (one) => one.charCodeAt(0)) : text;
  return new Blob([parts], { type: head.slice(5).split(";")[0] });
}

const MENU_GAP = 4; // px

// A small menu under a chip; Escape, a choice and a click elsewhere close it. items: [{label, hint, run()}].
function menu(label, items, spoken) {
  const list = h("div", { class: "sol-menu-list", id: uniqueId("menu"), popover: "auto",
    ontoggle: (event) => event.newState === "open" && place() },
  items.map((item) => h("button", { type: "button", onclick: () => { list.hidePopover(); item.run(); } },
    item.label, item.hint && h("small", {}, item.hint))));
  const opener = chip(label, null, { popovertarget: list.id, "aria-label": spoken });
  // Below the chip, or above it where there is no room.
  const place = () => {
    const { top, bottom, right } = opener.getBoundingClientRect();
    const below = bottom + MENU_GAP;
    const isAbove = below + list.offsetHeight > innerHeight;
    list.style.top = `${isAbove ? top - MENU_GAP - list.offsetHeight : below}px`;
    list.style.left = `${Math.max(right - list.offsetWidth, MENU_GAP)}px`;
  };
  return [opener, list];
}

const EXPORT_FORMS = { html: ["Web page", "to look at anywhere, offline"],
  json: ["JSON", "everything; can be imported"], csv: ["CSV", "a row per token"] };
// A kind's own hints; null: it has no such form.
const EXPORT_HINTS = { inspection: { csv: "a row per token and schedule" },
  comparison: { json: null, csv: null } };

// kind: as Python knows it; id(): of the thing on show; fail(message) shows why there is no file.
export function exportMenu(api, kind, id, fail, spoken) {
  const run = (form) => () => attempt(async () => {
    const file = await api("export_file", { kind, id: id(), form });
    saveFile(file.name, new Blob([file.text], { type: file.type }));
  }, fail);
  const hints = EXPORT_HINTS[kind] ?? {};
  const items = Object.entries(EXPORT_FORMS).filter(([form]) => hints[form] !== null)
    .map(([form, [label, hint]]) => ({ label, hint: hints[form] ?? hint, run: run(form) }));
  return items.length > 1 ? menu("Export", items, spoken)
    : chip("Export", items[0].run, { title: items[0].label });
}
