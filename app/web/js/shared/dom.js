// Helpers for building the page. What a model writes is hostile: no string here is ever parsed as HTML.
// Terms in texts are explained by tips.js. An exported page has no table of them, and shows plain words.

const SVG = "http://www.w3.org/2000/svg";

export const h = (tag, attributes, ...children) => fill(document.createElement(tag), attributes, children);
export const svg = (tag, attributes, ...children) =>
  fill(document.createElementNS(SVG, tag), attributes, children);

/** What the page has from the start, by its selector. @param {string} selector @returns {Element} */
export function pageElement(selector) {
  const found = document.querySelector(selector);
  if (!found) throw new Error(`This page has no ${selector}.`);
  return found;
}

const UNIT = /(\d) (?=(?:%|nats?|bits?|points?|ms|s|min|h|tokens\/s|[kMGT]?(?:B|FLOPs?))(?![\p{L}\p{N}]))/gu;

// A number and its unit stay on one line. Code, and somebody else's text as a node, go in unchanged.
const unbroken = (text) => String(text).replace(UNIT, "$1\u00a0");
const wordsIn = (node, text) => (/^(code|pre)$/i.test(node.nodeName) ? String(text) : unbroken(text));
export const asIs = (text) => document.createTextNode(text);

const isMissing = (value) => value === null || value === undefined || value === false;

export function fill(node, attributes, children) {
  for (const [name, value] of Object.entries(attributes || {})) {
    if (isMissing(value)) continue;
    if (name.startsWith("on")) node.addEventListener(name.slice(2), value);
    else if (name.startsWith("--")) node.style.setProperty(name, value);
    else node.setAttribute(name, value === true ? "" : value);
  }
  const known = children.flat(Infinity).filter((child) => !isMissing(child));
  node.append(...known.map((child) => (typeof child === "object" ? child : wordsIn(node, child))));
  return node;
}

export function setChildren(node, ...children) {
  node.replaceChildren();
  fill(node, null, children);
}

// Buttons that send no form. attributes: besides or in place of the usual ones.
const buttonOf = (kind) => (label, onclick, attributes = {}) =>
  h("button", { type: "button", class: kind, onclick, ...attributes }, label);
export const button = buttonOf("sol-button");
export const smallButton = buttonOf("sol-button is-small");
export const chip = buttonOf("sol-chip");

// A link that opens its thing here; with a key held, the browser's own way.
export function opensHere(open) {
  return (event) => {
    if (event.ctrlKey || event.metaKey || event.shiftKey) return;
    event.preventDefault();
    open();
  };
}

/** @type {Record<string, {name: string, text: string}>} */
export const TERMS = JSON.parse(document.getElementById("sol-terms")?.textContent ?? "{}");

export const idOf = (key) => `sol-term-${key.replace(/\s+/g, "-")}`;

// A term's button; `shown` is the word as the text has it. Passive ones are only hovered.
function term(key, shown, isPassive) {
  if (!(key in TERMS)) return asIs(shown);
  if (isPassive) return h("span", { class: "sol-term is-passive", "data-term": key }, shown);
  return h("button", { type: "button", class: "sol-term", "data-term": key, "aria-describedby": idOf(key) },
    shown);
}

// Text with [[TERM]] or [[TERM|as shown]] → nodes. A line never begins with what ends a term's sentence.
export function glossed(text, isPassive = false) {
  return String(text).split(/(\[\[[^\]]+\]\][.,;:!?)]*)/).map((part) => {
    const found = /^\[\[([^\]]+)\]\](.*)$/.exec(part);
    if (!found) return asIs(unbroken(part));
    const [key, shown] = found[1].split("|");
    const word = term(key.toLowerCase(), shown ?? key, isPassive);
    return found[2] ? h("span", { class: "sol-term-end" }, word, found[2]) : word;
  });
}

export const headRow = (names) =>
  h("thead", {}, h("tr", {}, names.map((name) => h("th", { scope: "col" }, name))));

export const optionsOf = (options) => options.map(([value, text]) => h("option", { value }, text));
export const selectOf = (options, attributes = {}) =>
  h("select", { class: "sol-input", ...attributes }, optionsOf(options));

export function setText(node, text) {
  const words = wordsIn(node, text);
  if (node.textContent !== words) node.textContent = words;
}

const SAID_MS = 10_000;

// Words for a screen reader, which go once they were said: they repeat what is seen.
export function announce(region, words) {
  setText(region, words);
  clearTimeout(region.solTimer);
  region.solTimer = setTimeout(() => setText(region, ""), SAID_MS);
}

export const show = (node, visible) => { node.hidden = !visible; };

const turns = new Map();

// One thing a frame, and of each owner only the newest: what follows a pointer never holds up a frame.
export function drawInTurn(owner, draw) {
  if (turns.size === 0) requestAnimationFrame(takeTurn);
  turns.set(owner, draw);
}

function takeTurn() {
  const [[owner, draw]] = turns;
  turns.delete(owner);
  if (turns.size > 0) requestAnimationFrame(takeTurn);
  draw();
}

let lastId = 0;
export const uniqueId = (prefix) => `sol-${prefix}-${++lastId}`;

export const wait = (ms) => new Promise((resolve) => setTimeout(resolve, Math.max(0, ms)));
export const isTouch = matchMedia("(hover: none)").matches;
export const isCalm = () => matchMedia("(prefers-reduced-motion: reduce)").matches;

export function scrollTo(element, block = "start") {
  element.scrollIntoView({ block, behavior: isCalm() ? "auto" : "smooth" });
}

// Where it stands below its form.
export function bringIntoView(element) {
  if (innerWidth < 900) scrollTo(element);
}

// changed(isSeen): an element came into view, or went; early: how far from the view that already counts.
export function watchSight(element, changed, early = "0px") {
  new IntersectionObserver((entries) => changed(entries[entries.length - 1].isIntersecting),
    { rootMargin: early }).observe(element);
}

export const whenSeen = (element, seen) => watchSight(element, (isSeen) => isSeen && seen());

// A pointer over an element and drags across it, in what place(event) numbers; null: there is nothing.
export function watchPointer(element, place, { mark, select }) {
  let anchor = null;
  element.addEventListener("pointerdown", (event) => {
    anchor = place(event);
    element.setPointerCapture(event.pointerId);
  });
  element.addEventListener("pointermove", (event) => {
    const at = place(event);
    if (anchor === null || at === null) mark(at);
    else select([Math.min(anchor, at), Math.max(anchor, at)]);
  });
  ["pointerup", "pointercancel"].forEach((name) => element.addEventListener(name, () => { anchor = null; }));
  element.addEventListener("pointerleave", () => { if (anchor === null) mark(null); });
}

export function whenThemeChanges(changed) {
  matchMedia("(prefers-color-scheme: dark)").addEventListener("change", changed);
  new MutationObserver(changed).observe(document.body, { attributes: true, attributeFilter: ["class"] });
}

export async function copyText(text) {
  try {
    await navigator.clipboard.writeText(text);
    return;
  } catch {
    // Plain http and old browsers have no clipboard: go through a selection.
  }
  const area = h("textarea", { class: "sol-offscreen", readonly: true });
  area.value = text;
  document.body.append(area);
  area.select();
  document.execCommand("copy");
  area.remove();
}

/** Python's constants, once for all tabs; an exported page carries its own copy. @type {Site} */
export const SITE = JSON.parse(pageElement("#sol-site").textContent);

/** @param {unknown} error */
export const messageOf = (error) => (error instanceof Error ? error.message : String(error));

// Shows a text in its place; an empty one hides the place.
export function showText(place, text) {
  setText(place, text || "");
  show(place, Boolean(text));
}

// kind: "bad" is read out at once, "warn" is not.
export function say(place, text, kind = "warn") {
  place.className = `sol-message is-${kind}`;
  place.setAttribute("role", kind === "bad" ? "alert" : "status");
  showText(place, text);
}

export const errorLine = () => h("p", { class: "sol-message is-bad", role: "alert", hidden: true });
