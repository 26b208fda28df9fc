// A page without a browser for the modules of app/web/js: happy-dom, with stand-ins for what it lacks. Import it first.

import assert from "node:assert/strict";
import { existsSync, readFileSync, writeFileSync } from "node:fs";
import test from "node:test";
import { gzipSync } from "node:zlib";
import { Window } from "../../app/web/node_modules/happy-dom/lib/index.js";
import { makeApi } from "../../app/web/js/shared/api.js";

export const read = (path) => JSON.parse(readFileSync(new URL(path, import.meta.url), "utf8"));

/** Of record.py, made anew for every test that changes them. */
export const records = () => read("records.json");
/** A name that anybody may give a thing: it must stay text. */
export const HOSTILE = "<img src=x onerror=alert(1)> ${7*7} %{x} {{1}}";

const window = new Window({ url: "http://localhost/", width: 1280, height: 900,
  settings: { disableJavaScriptEvaluation: true, disableJavaScriptFileLoading: true, disableCSSFileLoading: true } });
const define = (name, value) => Object.defineProperty(globalThis, name, { value, configurable: true, writable: true });

// happy-dom forgets its observers with the next garbage collection; a page's live with what they observe.
define("WeakRef", class {
  constructor(kept) { this.kept = kept; }
  deref() { return this.kept; }
});
// Node's own timers, network and texts stay; its events are not those of the page.
const OWN = ["Event", "EventTarget", "CustomEvent", "MessageEvent", "navigator", "location", "history", "localStorage"];
for (const name of Object.getOwnPropertyNames(window)) {
  if (OWN.includes(name) || !(name in globalThis)) define(name, window[name]);
}
define("window", window);
for (const name of ["addEventListener", "removeEventListener", "dispatchEvent", "scrollBy", "getComputedStyle", "matchMedia",
  "getSelection"]) define(name, window[name].bind(window));
// What a page does at once or soon is waited for (settled); what it does now and then keeps no test waiting.
const [every, later, never] = [setInterval, setTimeout, clearTimeout];
const soon = new Set();
define("setInterval", (...asked) => every(...asked).unref());
define("setTimeout", (act, ms = 0) => {
  if (ms >= 1000) return later(act, ms).unref();
  const timer = later(() => {
    soon.delete(timer);
    act();
  }, ms);
  soon.add(timer);
  return timer;
});
define("clearTimeout", (timer) => {
  soon.delete(timer);
  never(timer);
});
define("requestAnimationFrame", (draw) => setTimeout(() => draw(performance.now())));
for (const [name, made] of [["toSorted", "sort"], ["toReversed", "reverse"]]) { // Node 18 has neither
  Array.prototype[name] ??= function copied(...asked) {
    return [...this][made](...asked);
  };
}

/** Everything is in sight and has a size. */
define("IntersectionObserver", class {
  constructor(changed) { this.changed = changed; }
  observe() { this.changed([{ isIntersecting: true }]); }
});
define("ResizeObserver", class { observe() {} });
Object.defineProperty(window.HTMLElement.prototype, "offsetWidth", { get: () => 600 });
Object.defineProperty(window.HTMLElement.prototype, "offsetHeight", { get: () => 300 });

const { matches } = window.Element.prototype;
window.Element.prototype.matches = function isSo(selector) {
  return selector === ":dir(rtl)" ? /[\u0590-\u08ff]/.test(this.textContent) : matches.call(this, selector);
};

/** A canvas keeps the last image that was put on it, and what was written. */
window.HTMLCanvasElement.prototype.getContext = function context() {
  const known = { createImageData: (width, height) => ({ width, height, data: new Uint8ClampedArray(4 * width * height) }),
    putImageData: (image) => { this.image = image; }, measureText: () => ({ width: 0 }),
    clearRect: () => { this.written = []; }, fillText: (text) => this.written.push(text) };
  return new Proxy(known, { get: (_, name) => known[name] ?? (() => {}) });
};

/** What a plot was asked to draw is in its `data` and `layout`. */
window.Plotly = { react: async (plot, data, layout) => Object.assign(plot, { data, layout }), purge: (plot) => { plot.data = null; } };
document.head.append = (script) => script.onload();

const addData = (id, data) => {
  const element = document.createElement("script");
  Object.assign(element, { id, type: "application/json", textContent: JSON.stringify(data) });
  document.body.append(element);
};
addData("sol-site", { ...records().site, plotly: "plotly.js" });
addData("sol-terms", read("../../app/web/glossary/terms.json"));

/** A part in the page, inside the room that all pages have. */
export function shown(...nodes) {
  document.querySelector(".sol-page")?.remove();
  const root = document.createElement("div");
  root.className = "sol-page";
  root.append(...nodes);
  document.body.append(root);
  return root;
}

// No machine's own language and time.
Date.prototype.toLocaleString = function moment(_, { dateStyle } = {}) {
  return this.toISOString().slice(dateStyle ? 0 : 11, 16);
};

/** Text as people see it: spaces for no-break ones, one for several. */
export const textOf = (node) => (node.textContent ?? "").replace(/\s+/g, " ").trim();
export const textsOf = (root, selector) => [...root.querySelectorAll(selector)].map(textOf);
export const cellsOf = (table) => [...table.querySelectorAll("tbody tr")].map((row) => [...row.children].map(textOf));

/** All that was asked for has been done and answered: turns, not a time. */
export async function settled() {
  for (let turn = 0; turn < 20 || soon.size > 0; turn += 1) await new Promise((done) => later(done, 1));
}
export const fire = (node, name, more = {}) =>
  node.dispatchEvent(Object.assign(new Event(name, { bubbles: true, cancelable: true }), more));
export const press = (node, key, more = {}) => fire(node, "keydown", { key, ...more });
/** Writes into a field as somebody does. */
export function type(input, value) {
  input.value = value;
  fire(input, "input");
  fire(input, "change");
}

const TOLD = ["aria-label", "aria-selected", "aria-valuetext", "href", "min", "max", "type", "title", "d"];

// One thing's look: of its attributes those that people see or hear.
function lookOf(element) {
  const told = [...element.classList].filter((name) => name.startsWith("is-"));
  for (const { name, value } of element.attributes) {
    if (TOLD.includes(name) || (name.startsWith("data-") && name !== "data-term")) told.push(`${name}=${value}`);
  }
  const { style, value, disabled, checked } = element;
  for (const name of Array.from(style ?? []).filter((one) => one.startsWith("--"))) told.push(`${name}=${+(+style.getPropertyValue(name)).toFixed(4)}`);
  if (value && element.matches("input, select, textarea")) told.push(`value=${value}`);
  if (disabled) told.push("disabled");
  if (checked) told.push("checked");
  return told.join(" ");
}

/** What is shown, a line for each thing: its text, its look, and what is in it further in. */
export function outline(node, depth = 0) {
  if (node.nodeType === 3) return node.textContent.trim() ? `${" ".repeat(depth)}${textOf(node)}\n` : "";
  if (node.hidden) return "";
  const plot = node.data?.[0] ? [...node.data, { shapes: node.layout.shapes, x: node.layout.xaxis, y: node.layout.yaxis }]
    .map((line) => `${" ".repeat(depth)}${JSON.stringify(line, rounded)}\n`).join("") : "";
  const inner = [...node.childNodes];
  const isText = inner.length > 0 && inner.every((one) => one.nodeType === 3);
  const look = lookOf(node);
  const own = isText || look ? `${" ".repeat(depth)}${[isText && textOf(node), look && `[${look}]`].filter(Boolean).join(" ")}\n` : "";
  return own + plot + (isText ? "" : inner.map((one) => outline(one, depth + (own ? 1 : 0))).join(""));
}

const rounded = (name, value) => (["line", "font", "tickfont", "gridcolor", "linecolor", "marker"].includes(name) ? undefined
  : typeof value === "number" ? +value.toPrecision(6) : value);

/** Python as a page calls it: answers by name, or functions of the request; `calls` keeps what was asked. */
export function serverOf(answers) {
  const calls = [];
  const call = (name) => async (request) => {
    calls.push([name, request]);
    return typeof answers[name] === "function" ? answers[name](request) : answers[name];
  };
  return { calls, server: new Proxy({}, { get: (_, name) => call(name) }) };
}

/** Mounts a page of the Lab. */
export const mounting = (Page) => (root, server, about) => new Page(root, makeApi(server), about).begin();

/** The record with this text in place of every name and text in it. */
export function named(value, text) {
  if (Array.isArray(value)) return value.map((one) => named(one, text));
  if (value === null || typeof value !== "object") return value;
  const NAMES = ["text", "label", "title", "prompt", "model", "corpus", "policy", "prompt_text"];
  return Object.fromEntries(Object.entries(value).map(([key, one]) =>
    [key, NAMES.includes(key) && typeof one === "string" ? text : named(one, text)]));
}

let times = 0;

/** The page of an exported file with this data. A module draws when it is imported: each time it has another name. */
export async function exported(kind, data) {
  document.querySelectorAll("main, #sol-data").forEach((one) => one.remove());
  const [main, packed] = ["main", "script"].map((tag) => document.createElement(tag));
  main.className = "sol-page";
  Object.assign(packed, { id: "sol-data", type: "application/gzip", textContent: gzipSync(JSON.stringify(data)).toString("base64") });
  document.body.append(main, packed);
  times += 1;
  await import(`../../app/web/js/sharing/shared_${kind}.js?${times}`);
  await settled();
  return main;
}

// What is drawn or told is as it was when somebody last read it.
function compare(name, text) {
  const file = new URL(`drawn/${name.replace(/[^a-z]+/gi, "_").slice(0, 40)}.txt`, import.meta.url);
  const drawn = Buffer.from(text).toString(); // half a character has no form in a file
  if (process.env.DRAW || !existsSync(file)) writeFileSync(file, drawn);
  assert.equal(drawn, readFileSync(file, "utf8"));
}

/** A test of steps whose results it says: they are compared with those in drawn/. */
export const told = (name, tell) => test(name, async () => {
  const lines = [];
  await tell((...found) => lines.push(found.map((one) => JSON.stringify(one, rounded) ?? "nothing").join("\n  ")));
  compare(name, `${lines.join("\n")}\n`);
});

/** A test that draws all records, and once more with a hostile name for everything. */
export const drawn = (name, draw) => test(name, async () => {
  const root = await draw(records());
  await settled();
  compare(name, outline(root));
  const hostile = await draw(named(records(), HOSTILE));
  await settled();
  assert.equal(hostile.querySelector("img, script"), null);
});

/** A whole run on show. */
export async function stageOf(view, on = {}) {
  const [{ RunStage }, { Status }] = await Promise.all(["run_stage", "status"]
    .map((module) => import(`../../app/web/js/shared/runs/${module}.js`)));
  const stage = new RunStage(shown(), new Status({}), on, { hint: "Hover." });
  shown(stage.build());
  stage.begin(view.run);
  stage.append(view.rows);
  stage.update(view, view.run, null);
  stage.finish();
  await settled();
  return stage;
}
