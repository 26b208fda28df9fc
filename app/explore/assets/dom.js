// Small helpers for building the page. Text always goes in as text nodes: what a model writes
// is hostile, and no string here is ever parsed as HTML.

const SVG = "http://www.w3.org/2000/svg";

function h(tag, attributes, ...children) {
  return fill(document.createElement(tag), attributes, children);
}

function svg(tag, attributes, ...children) {
  return fill(document.createElementNS(SVG, tag), attributes, children);
}

function fill(node, attributes, children) {
  for (const [name, value] of Object.entries(attributes || {})) {
    if (value === null || value === undefined || value === false) continue;
    if (name.startsWith("on")) node.addEventListener(name.slice(2), value);
    else if (name.startsWith("--")) node.style.setProperty(name, value);
    else node.setAttribute(name, value === true ? "" : value);
  }
  for (const child of children.flat(Infinity)) {
    if (child !== null && child !== undefined && child !== false) node.append(child);
  }
  return node;
}

function setText(node, text) {
  if (node.textContent !== text) node.textContent = text;
}

function show(node, visible) {
  node.hidden = !visible;
}

// Every tab's script has its own copy of this file, so the number alone would not be unique.
const SCOPE = Math.random().toString(36).slice(2, 8);
let lastId = 0;
function uniqueId(prefix) {
  lastId += 1;
  return `sol-${prefix}-${SCOPE}-${lastId}`;
}

// Storage may be refused (private windows, embedding): the page then forgets on reload, no more.
const memory = {
  fallback: new Map(),
  get(key) {
    try {
      return localStorage.getItem(`sol.${key}`);
    } catch {
      return this.fallback.get(key) ?? null;
    }
  },
  set(key, value) {
    try {
      localStorage.setItem(`sol.${key}`, value);
    } catch {
      this.fallback.set(key, value);
    }
  },
};

function visitorId() {
  const known = memory.get("visitor");
  if (known && /^[0-9a-f]{32}$/.test(known)) return known;
  const bytes = crypto.getRandomValues(new Uint8Array(16));
  const made = Array.from(bytes, (byte) => byte.toString(16).padStart(2, "0")).join("");
  memory.set("visitor", made);
  return made;
}

// A call to Python: one object in, one object out; what Python refuses arrives as an Error.
function makeApi(server) {
  const owner = visitorId();
  return async (name, request) => {
    const answer = await server[name]({ owner, ...request });
    if (answer.refused) {
      const refusal = new Error(answer.refused);
      refusal.refused = true;
      throw refusal;
    }
    return answer;
  };
}

const wait = (ms) => new Promise((resolve) => setTimeout(resolve, Math.max(0, ms)));
const whenIdle = (task) => (window.requestIdleCallback || setTimeout)(task);
const isCalm = () => matchMedia("(prefers-reduced-motion: reduce)").matches;

async function copyText(text) {
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

// The address of what is on show: a "run", an "inspection", a "train" job, an "evaluation" or a
// "benchmark". Other parameters (the theme, a Space's) stay as they are.
const SHOWN = ["run", "inspection", "train", "evaluation", "benchmark"];

function addressOf(name, id) {
  const url = new URL(window.location.href);
  SHOWN.forEach((one) => url.searchParams.delete(one));
  if (id) url.searchParams.set(name, id);
  return url.toString();
}

const runUrl = (runId) => addressOf("run", runId);
const askedFor = (name) => new URL(window.location.href).searchParams.get(name);
const asksForOther = (name) => SHOWN.some((one) => one !== name && askedFor(one));

// Asks Python's layout to bring a tab to the front; `trigger` is Gradio's.
function showTab(trigger, name) {
  window.solTab = name;
  trigger("select", {});
}
