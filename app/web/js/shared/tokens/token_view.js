// The token view: one element per token, its values in custom properties, which the style sheet draws.

import { fill, h, SITE } from "../dom.js";
import { AXES, fixed, isNumber, nats, percent, spendOf } from "../format.js";
import { spokenText, tokenNodes, withoutEnd } from "./token_text.js";

export const LEAST_COST = 0.5; // share of the full model's bytes: below it the colour stays as it is there
const LEAST_RANGE = 0.1; // of the compute that the colours stretch over
const EVEN_RANGE = 0.01; // of the compute: less is the same for every token
const SURPRISAL_TOP = 6; // nats; above it the colour stays at its strongest

// name: of a KL to the full model; above one nat the colour stays at its strongest.
export const klAxis = (name) => ({ key: "kl", name, of: (row) => row.kl_to_dense, low: 0, high: 1,
  show: (value) => `${+fixed(value, 1)} nats`, isOpen: true });

// Compute: bytes that the step read, as a share of what it reads densely.
export const shareOfBytes = (row) => row.cost.bytes_read / row.dense_cost.bytes_read;

// Ends of the colours of what was read: its own where it is uneven, else those of a run that goes on.
/** @param {number[]} shares */
export function stretched(shares) {
  const [least, most] = [Math.min(...shares), Math.max(...shares)];
  const isEven = most - least <= EVEN_RANGE;
  const more = Math.max(LEAST_RANGE - (most - least), 0) / 2;
  const top = Math.min(most + more, Math.max(most, 1));
  const [low, high] = shares.length && !isEven ? [Math.min(least, top - LEAST_RANGE), top] : [LEAST_COST, 1];
  return { low, high, isOpenBelow: low === LEAST_COST, isEven: shares.length > 0 && isEven };
}

export const colourAxes = () => [
  { key: "cost", name: "Compute", of: shareOfBytes, low: LEAST_COST, high: 1, show: percent,
    isOpenBelow: true },
  ...AXES,
  { ...klAxis("Surprisal"), key: "surprisal", of: (row) => row.surprisal, high: SURPRISAL_TOP },
];

export const denseSide = (row) => row.side?.find((side) => side.name === "dense");

// The token that dense would have put first, where another one is; null where none is known.
export function densesChoice(row) {
  const choice = denseSide(row)?.choice;
  return choice && choice.token_id !== row.top[0].token_id ? choice : null;
}

// True where dense would have put the same token first; null where its choice is not known.
export const choiceKept = (row) => (denseSide(row)?.choice ? densesChoice(row) === null : null);

// The colour's number goes into this attribute of a token; an axis may have its own scale.
export const BIN = "data-bin";

export function binOf(axis, row) {
  const { low, high } = axis;
  const value = axis.of(row);
  if (!isNumber(value)) return null;
  const at = (value - low) / (high - low);
  return Math.round(Math.min(Math.max(at, 0), 1) * ((axis.bins ?? SITE.numBins) - 1));
}

/** @param {Token} row */
function tokenLabel(row) {
  const { surprisal, kl_to_dense: kl } = row;
  const other = densesChoice(row);
  return `Token ${row.index + 1}: ${spokenText(row.text)}. ${spendOf(row)}, `
    + (isNumber(surprisal) ? `surprisal ${nats(surprisal)} nats` : `KL to the full model ${nats(kl)} nats`)
    + (other ? `, the full model would choose ${spokenText(other.text)}` : "");
}

export class TokenView {
  rows = [];
  elements = [];

  // on: {enter(index, element), leave()}, and where it can be done select(range), pick(index) and looksFirst
  constructor(axes, on, label) {
    this.on = on;
    this.axis = axes[0];
    this.given = 0; // first tokens that were put in; the last of them parts a fork from its parent
    this.list = h("div", { class: "sol-lines", role: "listbox", "aria-label": label,
      "aria-multiselectable": "true", "aria-orientation": "horizontal" });
    this.lead = h("div", { class: "sol-lead" });
    this.element = h("div", { class: "sol-scroll" }, this.lead, this.list);
    this.listen();
    this.clear();
  }

  clear() {
    this.rows = [];
    this.elements = [];
    this.current = 0;
    this.range = this.picked = this.marked = this.line = null;
    this.isBehind = false; // tokens came while one was looked at
    this.list.replaceChildren();
    this.place = this.list;
    this.indent = 0; // of the next line, in spaces
    this.element.scrollTop = 0;
  }

  // Follows the newest token, but not while another one is looked at: its place stays where it is.
  append(rows) {
    const { scrollHeight, scrollTop, clientHeight } = this.element;
    const atEnd = scrollHeight - scrollTop - clientHeight < 80;
    rows.forEach((row) => this.addToken(row));
    this.isBehind = (atEnd || this.isBehind) && Boolean(this.marked);
    if (atEnd && !this.marked) this.element.scrollTop = this.element.scrollHeight;
  }

  addToken(row) {
    this.line ??= this.startLine();
    const other = densesChoice(row) ? " is-other" : "";
    const token = h("span", { class: `sol-token${other}${this.origin(row, " is-given", " is-put")}`,
      role: "option", "aria-selected": "false", tabindex: this.rows.length ? "-1" : "0",
      ...this.attributesOf(row) }, tokenNodes(row.text));
    token.solIndex = this.rows.length;
    this.paint(token, row);
    if (/^\s/.test(row.text)) this.line.append(h("wbr"));
    this.line.append(token);
    this.elements.at(-1)?.removeAttribute("hidden"); // the text goes on
    this.rows.push(row);
    this.elements.push(token);
    token.hidden = withoutEnd(this.rows).length < this.rows.length;
    if (!row.text.includes("\n")) return;
    this.line = null;
    this.indent = /[ \t]*$/.exec(row.text)?.[0].length ?? 0;
  }

  attributesOf(row) {
    return { "aria-label": tokenLabel(row) + this.origin(row, ", given", ", put in"),
      ...Object.fromEntries(AXES.map((axis) => [`--${axis.key}`, axis.fraction(axis.of(row))])) };
  }

  // One of two words for a token that was given, the second one for the last of them.
  origin(row, before, last) {
    return row.index >= this.given ? "" : row.index === this.given - 1 ? last : before;
  }

  // Spaces after a line break belong to its token, and indent the line that they begin.
  startLine() {
    const line = h("div",
      { class: "sol-line", role: "presentation", dir: "auto", "--indent": this.indent || null });
    this.indent = 0;
    this.place.append(line);
    return line;
  }

  startBlock(attributes) {
    this.place = h("div", { role: "presentation", ...attributes });
    this.list.append(this.place);
    this.line = null;
    return this.place;
  }

  update(index, row) {
    const token = this.elements[index];
    this.rows[index] = row;
    fill(token, this.attributesOf(row), []);
    this.paint(token, row);
  }

  paint(token, row) {
    const bin = binOf(this.axis, row);
    const attribute = this.axis.attribute ?? BIN;
    const { solAttribute: before } = token;
    if (before && (bin === null || before !== attribute)) token.removeAttribute(before);
    token.solAttribute = attribute;
    if (bin !== null && token.getAttribute(attribute) !== String(bin)) token.setAttribute(attribute, bin);
  }

  setAxis(axis) {
    this.axis = axis;
    this.elements.forEach((token, at) => this.paint(token, this.rows[at]));
  }

  // Marks one token (null: none); from a chart, the token is also brought into view.
  mark(index, bringIntoView = false) {
    this.marked?.classList.remove("is-marked");
    this.marked = index === null ? null : this.elements[index];
    if (!this.marked) {
      if (this.isBehind) this.element.scrollTop = this.element.scrollHeight;
      this.isBehind = false;
      return;
    }
    this.marked.classList.add("is-marked");
    if (bringIntoView) this.reveal(this.marked);
  }

  pick(index) {
    this.picked?.classList.remove("is-picked");
    this.picked = index === null ? null : this.elements[index];
    this.picked?.classList.add("is-picked");
  }

  // Scrolls the token list only: the page itself stays where it is.
  reveal(token) {
    if (token.hidden) return;
    const box = this.element.getBoundingClientRect();
    const place = token.getBoundingClientRect();
    if (place.top < box.top + 8) this.element.scrollTop -= box.top + 24 - place.top;
    else if (place.bottom > box.bottom - 8) this.element.scrollTop += place.bottom - box.bottom + 24;
  }

  select(range) {
    this.range = range;
    this.elements.forEach((token, at) => {
      token.setAttribute("aria-selected", String(range !== null && at >= range[0] && at <= range[1]));
    });
    this.list.classList.toggle("has-selection", range !== null);
    if (range !== null && this.elements[range[0]]) this.reveal(this.elements[range[0]]);
  }

  listen() {
    const tokenOf = (event) => event.target.closest?.(".sol-token");
    // A card opens where the pointer moves, not where tokens come to lie under a resting pointer.
    let under = null;
    const leave = () => {
      under = null;
      this.on.leave();
    };
    this.list.addEventListener("pointermove", (event) => {
      const token = tokenOf(event);
      if (!token || token === under) return;
      under = token;
      this.on.enter(token.solIndex, token);
    });
    this.list.addEventListener("pointerover", (event) => { if (tokenOf(event) !== under) leave(); });
    this.list.addEventListener("pointerleave", leave);
    this.list.addEventListener("focusin", (event) => {
      const token = tokenOf(event);
      if (!token) return;
      this.makeCurrent(token.solIndex);
      this.on.enter(token.solIndex, token);
    });
    this.list.addEventListener("focusout", () => this.on.leave());
    this.list.addEventListener("keydown", (event) => this.onKey(event));
    // A finger cannot hover: where one looks first, its first touch of a token does, its second one picks.
    let isSecond = true;
    this.list.addEventListener("pointerdown", (event) => {
      isSecond = !this.on.looksFirst || event.pointerType !== "touch"
        || tokenOf(event) === document.activeElement;
    });
    this.list.addEventListener("click", (event) => {
      const token = tokenOf(event);
      token?.focus({ preventScroll: true });
      if (token && isSecond && (getSelection()?.isCollapsed ?? true)) this.on.pick?.(token.solIndex);
    });
    this.list.addEventListener("copy", (event) => this.onCopy(event));
  }

  makeCurrent(index) {
    this.elements[this.current]?.setAttribute("tabindex", "-1");
    this.current = index;
    this.elements[index]?.setAttribute("tabindex", "0");
  }

  onKey(event) {
    if (event.ctrlKey || event.metaKey || event.altKey) return;
    const rtl = this.elements[this.current]?.matches(":dir(rtl)");
    const last = withoutEnd(this.rows).length - 1;
    const step = rtl ? -1 : 1;
    const goals = { ArrowRight: () => this.current + step, ArrowLeft: () => this.current - step,
      Home: () => 0, End: () => last, ArrowDown: () => this.beside(1), ArrowUp: () => this.beside(-1) };
    const acts = { " ": () => this.toggle(), "Enter": () => this.on.pick?.(this.current) };
    if (!(event.key in goals || event.key in acts)) return;
    event.preventDefault();
    if (event.key in acts) return acts[event.key]();
    if (!this.range) this.anchor = this.current;
    const goal = Math.min(Math.max(goals[event.key](), 0), last);
    this.elements[goal]?.focus({ preventScroll: true });
    this.reveal(this.elements[goal]);
    if (event.shiftKey) this.on.select?.([Math.min(this.anchor, goal), Math.max(this.anchor, goal)]);
  }

  toggle() {
    const { range, current } = this;
    this.anchor = current;
    this.on.select?.(range && range[0] === current && range[1] === current ? null : [current, current]);
  }

  // The token above or below: nearest in x on the next row of text.
  beside(step) {
    const here = this.elements[this.current].getClientRects()[0];
    const middle = (here.left + here.right) / 2;
    let best = this.current;
    let bestRow = null;
    let bestGap = Infinity;
    const { length } = withoutEnd(this.rows);
    for (let at = this.current + step; at >= 0 && at < length; at += step) {
      const place = this.elements[at].getClientRects()[0];
      if (Math.abs(place.top - here.top) < 4) continue;
      if (bestRow !== null && Math.abs(place.top - bestRow) > 4) break;
      bestRow = place.top;
      const gap = Math.abs((place.left + place.right) / 2 - middle);
      if (gap < bestGap) [best, bestGap] = [at, gap];
    }
    return best;
  }

  // Copying gives the model's text, not the glyphs that show it.
  onCopy(event) {
    const selection = getSelection();
    if (!selection || selection.isCollapsed) return;
    const text = this.elements
      .filter((token) => !token.hidden && selection.containsNode(token, true))
      .map((token) => this.rows[token.solIndex].text)
      .join("");
    event.clipboardData.setData("text/plain", text);
    event.preventDefault();
  }
}
