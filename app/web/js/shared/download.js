// Files for the user to keep: a menu of forms, and the browser's own way to save what it is given.

import { attempt } from "./api.js";
import { chip, h, uniqueId } from "./dom.js";

export function saveFile(name, blob) {
  const address = URL.createObjectURL(blob);
  h("a", { href: address, download: name }).click();
  setTimeout(() => URL.revokeObjectURL(address), 10_000);
}

// A file from base64; fetching a data URL is not allowed everywhere.
export const blobOf = (base64, type) =>
  new Blob([Uint8Array.from(atob(base64), (one) => one.charCodeAt(0))], { type });

const WEB_PAGE = ["html", "Web page", "to look at anywhere, offline"];
const JSON_FILE = ["json", "JSON", "everything; can be imported"];
/** Of each kind of thing: form, label, hint. @type {Record<string, string[][]>} */
const EXPORT_FORMS = { run: [WEB_PAGE, JSON_FILE, ["csv", "CSV", "a row per token"]], comparison: [WEB_PAGE],
  inspection: [WEB_PAGE, JSON_FILE, ["csv", "CSV", "a row per token and schedule"]] };
const MENU_GAP = 4; // px

// A small menu under a chip, which Escape, a choice and a click elsewhere close.
/** @param {string} label @param {MenuEntry[]} entries @param {string} [spoken] */
export function menu(label, entries, spoken) {
  const list = h("div", { class: "sol-menu-list", id: uniqueId("menu"), popover: "auto",
    ontoggle: (event) => event.newState === "open" && place() },
  entries.map(({ name, hint, act }) => h("button", { type: "button", onclick: () => {
    list.hidePopover();
    act();
  } }, name, h("small", {}, hint))));
  const opener = chip(label, null, { popovertarget: list.id, "aria-label": spoken });
  const place = () => {
    const { top, bottom, right } = opener.getBoundingClientRect();
    const below = bottom + MENU_GAP;
    const isAbove = below + list.offsetHeight > innerHeight;
    list.style.top = `${isAbove ? top - MENU_GAP - list.offsetHeight : below}px`;
    list.style.left = `${Math.max(right - list.offsetWidth, MENU_GAP)}px`;
  };
  return [opener, list];
}

/** @typedef {{ name: string, hint: string, act: () => void }} MenuEntry */

// kind: as Python knows it; id(): of the thing on show; fail(message) shows why there is no file.
/** @param {{ spoken?: string, more?: MenuEntry[], seen?: () => object | null }} [words] more: entries after
 * the forms; seen: what the page found out besides */
export function exportMenu(api, kind, id, fail, words = {}) {
  const { spoken, more = [], seen } = words;
  const save = (form) => attempt(async () => {
    const file = await api("export_file", { kind, id: id(), form, seen: seen?.() });
    saveFile(file.name, new Blob([file.text], { type: file.type }));
  }, fail);
  const [[first, hint], ...others] = EXPORT_FORMS[kind];
  if (!others.length) return chip("Export", () => save(first), { title: hint });
  return menu("Export", [...EXPORT_FORMS[kind].map(([form, name, about]) =>
    ({ name, hint: about, act: () => save(form) })), ...more], spoken);
}
