// Parts of which pages are made: chips, menus of files to keep, tiles, tables, rows of lists, verdicts.

import { attempt } from "./api.js";
import { asIs, chip, copyText, glossed, h, headRow, opensHere, setText, uniqueId } from "./dom.js";
import { AXES, fixed, isNumber, largestGap, mean, MISSING, nats } from "./format.js";

const COPIED_MS = 1600;

export function copyChip(label, text) {
  const made = chip(label, async () => {
    await copyText(text());
    setText(made, "Copied");
    setTimeout(() => setText(made, label), COPIED_MS);
  });
  return made;
}

export function tile(name, note, text = MISSING) {
  const value = h("dd", {}, text);
  const small = h("small", {}, glossed(note));
  return { value, note: small, element: h("div", { class: "sol-tile" }, h("dt", {}, glossed(name)), value,
    h("dd", {}, small)) };
}

/** What training measured on text it never saw, as tiles, and more.
 * @param {Record<string, number>} measured @param {string[][]} more */
export function heldOutTiles(measured, more) {
  const { kl, kl_static: klStatic, nll, nll_static: nllStatic, nll_dense: full } = measured;
  const than = (value, rest = "") => (isNumber(value) ? `static ${nats(value)}${rest}` : "nats per token");
  const list = [
    ["[[kl|KL]], [[held out]]", nats(kl), than(klStatic)],
    ["[[nll|NLL]], held out", nats(nll), than(nllStatic, isNumber(full) ? `, full model ${nats(full)}` : "")],
    ["Largest miss of the budget", fixed(largestGap(measured), 2), "percentage points"], ...more,
  ];
  return list.map(([name, value, note]) => tile(name, note, value).element);
}

export const tablePlace = (label, table) =>
  h("div", { class: "sol-table-place", tabindex: "0", role: "group", "aria-label": label }, table);

/** A row's heading and its cells. @param {any[]} row */
export const tableRow = ([head, ...cells]) =>
  h("tr", {}, h("th", { scope: "row" }, head), cells.map((cell) => h("td", {}, cell)));

export const fillTable = (place, rows) => place.querySelector("tbody").replaceChildren(...rows.map(tableRow));

// columns: as the glossary marks them; rows: as tableRow takes them.
export const dataTable = (label, columns, rows) => tablePlace(label, h("table", { class: "sol-table" },
  headRow(columns.map((name) => glossed(name))), h("tbody", {}, rows.map(tableRow))));

// A panel with a table that may be wider. name: of the table; head: more for the head; note: nodes below.
/** @param {HTMLElement} table @param {{ title: string, label: string, name: string, head?: Node | Node[],
 *   note: string | Node | Node[] }} about */
export const tablePanel = (table, { title, label, name, head, note }) =>
  h("section", { class: "sol-panel sol-results", "aria-label": label },
    h("header", {}, h("h2", {}, title), head),
    tablePlace(name, table), h("p", { class: "sol-chart-note" }, note));

/** @param {{ title: string, href?: string, open?: () => void, facts: unknown[], tools?: unknown[],
 *   link?: object, kind?: string }} row without an address of what cannot be opened */
export const listRow = ({ title, href, open, facts, tools, link = {}, kind = "" }) =>
  h("li", { class: `sol-history-row ${kind}` }, h("div", {},
    h("a", { class: "sol-history-title", href, dir: "auto", onclick: open && opensHere(open), ...link },
      title),
    h("div", { class: "sol-history-facts" }, facts)), tools && h("div", { class: "sol-tools" }, tools));

const LONG_LEAD = 320; // characters, beyond which a text before the tokens is folded

export function leadOf(name, text) {
  const part = h("p", { class: "sol-lead-text", dir: "auto" }, asIs(text));
  const head = h("span", { class: "sol-lead-name" }, name);
  if (text.length < LONG_LEAD) return [head, part];
  return [head, h("details", { class: "sol-lead-more" },
    h("summary", { dir: "auto" }, asIs(`${text.slice(0, LONG_LEAD).trimEnd()}…`)), part)];
}

export function selectionText(rows, [from, to]) {
  const chosen = rows.slice(from, to + 1);
  const spend = AXES.map((axis) => `${axis.noun} ${axis.show(mean(chosen.map(axis.of)))}`).join(", ");
  const kl = mean(chosen.map((row) => row.kl_to_dense));
  return `Tokens ${from + 1}–${to + 1}: on average ${spend}, surprisal `
    + `${nats(mean(chosen.map((row) => row.surprisal)))}${isNumber(kl) ? `, KL ${nats(kl)}` : ""} nats`;
}

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

export const LEAST_TOP = 0.001; // what the highest bar stands for at least

export const levelBars = (shares, chosen) => shares.map((share, at) =>
  h("i", { class: at === chosen && "is-chosen", "--v": share }));

export const endsOf = (low, high) =>
  h("div", { class: "sol-level-ends", "aria-hidden": "true" }, h("span", {}, low), h("span", {}, high));
