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

// Text whose terms, [[TERM]] or [[TERM|as shown]], explain themselves; see app/glossary.
// Hovered only, without a place in the tab order, where `isPassive`: inside what itself is a tip.
function glossed(text, isPassive = false) {
  return window.solGlossary ? window.solGlossary.glossed(text, isPassive)
    : [String(text).replace(/\[\[(?:[^\]|]+\|)?([^\]]+)\]\]/g, "$1")];
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

// On ZeroGPU Hugging Face's page around this one gives a ticket to whoever asks, so that the GPU's
// time is taken from the visitor's quota. Gradio listens for the offer and asks for its own events.
const TICKET_MS = 2000;

function zeroGpuHeaders() {
  if (!window.supports_zerogpu_headers || window.parent === window) return null;
  return new Promise((resolve) => {
    const { port1, port2 } = new MessageChannel();
    port1.onmessage = ({ data }) => resolve(data);
    setTimeout(() => resolve(null), TICKET_MS);
    window.parent.postMessage("zerogpu-headers", "https://huggingface.co", [port2]);
  });
}

// A call to Python: one object in, one object out; what Python refuses arrives as an Error.
function makeApi(server) {
  const owner = visitorId();
  return async (name, request) => {
    const ticket = name.startsWith("poll_") ? null : await zeroGpuHeaders();
    const answer = await server[name]({ owner, zero_gpu_headers: ticket, ...request });
    if (answer.refused) {
      const refusal = new Error(answer.refused);
      refusal.refused = true;
      throw refusal;
    }
    return answer;
  };
}

// A text that is cut off and scrolls can be reached by the keyboard, and only then.
function reachWhenScrolling(node, label) {
  new ResizeObserver(() => {
    if (node.scrollHeight <= node.clientHeight + 1) {
      ["tabindex", "role", "aria-label"].forEach((name) => node.removeAttribute(name));
      return;
    }
    node.tabIndex = 0;
    node.setAttribute("role", "group");
    node.setAttribute("aria-label", label);
  }).observe(node);
  return node;
}

const wait = (ms) => new Promise((resolve) => setTimeout(resolve, Math.max(0, ms)));
const whenIdle = (task) => (window.requestIdleCallback || setTimeout)(task);
const isCalm = () => matchMedia("(prefers-reduced-motion: reduce)").matches;

// Where form and result stand one below the other, the result is brought to the eye.
function bringIntoView(element) {
  if (innerWidth < 900) element.scrollIntoView({ behavior: isCalm() ? "auto" : "smooth" });
}

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
