// The stage: tokens in one column or in several side by side, tied to their card and to the legend.

import { h, isTouch, SITE } from "../dom.js";
import { AXES, isNumber } from "../format.js";
import { pillsField } from "../forms/form_parts.js";
import { memory } from "../memory.js";
import { TokenCard } from "./card.js";
import { BIN, densesChoice, TokenView } from "./token_view.js";

// A scale is fixed, so that a colour means the same in every run; beyond its ends the colour stays the same.
export function colourScale(axis) {
  const steps = Array.from({ length: axis.bins ?? SITE.numBins }, (_, bin) =>
    h("span", { class: "sol-token sol-swatch", [axis.attribute ?? BIN]: bin }));
  return h("span", { class: "sol-scale" },
    h("span", { class: "sol-value" }, (axis.isOpenBelow ? "≤ " : "") + axis.show(axis.low)),
    h("span", { class: "sol-scale-steps", "aria-hidden": "true" }, steps),
    h("span", { class: "sol-value" }, (axis.isOpen ? "≥ " : "") + axis.show(axis.high)));
}

function laneLegend() {
  return h("div", { class: "sol-lane-legend", title: "Lanes: a full one is as much as the full model" },
    AXES.map((axis) => h("span", { class: "sol-lane-key", "data-axis": axis.key },
      h("i", { "aria-hidden": "true" }), axis.name)));
}

// onAxis(axis, isChosen): what the colour shows; isChosen: somebody chose it just now.
export class Legend {
  isEven = false; // every token has one colour

  /** @param {Axis[]} axes @param {(axis: Axis, isChosen: boolean) => void} onAxis */
  constructor(axes, onAxis, key = "axis") {
    this.axes = axes;
    this.scale = h("div", {});
    this.note = h("span", { class: "sol-muted" });
    const choice = pillsField({ legend: "Colour", isSmall: true,
      choices: Object.fromEntries(axes.map((axis) => [axis.key, axis.name])),
      changed: (chosen) => {
        memory.set(key, chosen);
        this.set(chosen, true);
      } });
    this.inputs = choice.inputs;
    this.element = h("div", { class: "sol-legend" }, choice.element, this.scale,
      h("div", { class: "sol-legend-end" }, this.note, laneLegend()));
    this.onAxis = onAxis;
    this.axis = axes[0];
    this.set(memory.get(key));
  }

  // The axis of this key, or the first where it cannot be chosen; nothing is remembered.
  set(key, isChosen = false) {
    this.axis = this.axes.find((one) => one.key === key && !this.inputs[key].disabled) ?? this.axes[0];
    this.inputs[this.axis.key].checked = true;
    this.scale.dataset.name = this.axis.name;
    this.scale.replaceChildren(colourScale(this.axis));
    this.onAxis(this.axis, isChosen);
  }

  // Lets an axis be chosen or not; one that is chosen gives way to the first.
  allow(key, isAllowed, why) {
    this.inputs[key].disabled = !isAllowed;
    this.inputs[key].parentElement.title = isAllowed ? "" : why;
    if (!isAllowed && this.axis.key === key) this.inputs[this.axes[0].key].click();
  }
}

export const TOKEN_HINT = isTouch ? "Tap a token."
  : "Hover a token, or focus the text and use the arrow keys.";
export const LENS_HINT = isTouch ? "Tap a token, once more to ask what if."
  : `${TOKEN_HINT} Click one (or Enter) to ask what if.`;
export const SHARED_HINT = isTouch ? TOKEN_HINT : `${TOKEN_HINT} Shift and an arrow selects; Escape clears.`;

// Long enough for words that say something, but do not.
const FUNCTION_WORDS = new Set(("about after also because been before being between both could does each "
  + "even every from have having into just like many more most much must only other over same should since "
  + "some such than that their them then there these they this those through under very were what when where "
  + "which while will with within without would your itself himself herself themselves").split(" "));

const isWord = ({ text }) => /[\p{L}\p{N}]/u.test(text) && !/^<.*>$/.test(text.trim());

// Words that say something: numbers and words of four letters and more; of other scripts all.
const isContent = (row) => isWord(row) && !FUNCTION_WORDS.has(row.text.trim().toLowerCase())
  && /\p{N}|[\p{Script=Latin}\p{M}]{4}|(?!\p{Script=Latin})\p{L}/u.test(row.text);

const MOST_SURPRISAL = 1.6; // nats, a fifth: no page explains a word that was hardly expected

// Words that say something, those that were expected and of which the model was least sure first.
export const contentWords = (rows) => rows.filter((row) => isContent(row) && isNumber(row.entropy))
  .toSorted((a, b) => Number(a.surprisal > MOST_SURPRISAL) - Number(b.surprisal > MOST_SURPRISAL)
    || b.entropy - a.entropy);

// The word that has most to ask: where the full model's answer would part, else the first of these.
export function leastCertain(rows, given = 0) {
  const own = rows.slice(given);
  const parted = own.find(densesChoice);
  return (parted && isWord(parted) ? parted : contentWords(own)[0])?.index ?? null;
}

export class TokenStage {
  /** The columns on show, each with the number of its text. @type {{ at: number, view: TokenView }[]} */
  columns = [];
  /** Of the texts, where one run has several. @type {string[]} */
  names = [];
  /** The token that the lens looks at, and the number of its text. @type {[number | null, number]} */
  picked = [null, 0];
  /** The token on show while none is pointed at; of a run that goes on, the newest. @type {number | null} */
  resting = null;
  isLive = false;

  // on: pick(index, at) where a lens is, colour(key) where it is kept; colourKey: as the browser keeps it
  constructor(root, axes, on, colourKey = "axis") {
    this.on = on;
    this.axes = axes;
    this.card = new TokenCard(root);
    this.card.onHide = () => this.rest();
    this.legend = new Legend(axes, (axis, isChosen) => {
      this.columns.forEach(({ view }) => view.setAxis(axis));
      if (isChosen) on.colour?.(axis.key);
    }, colourKey);
  }

  addColumn(at, label, more = {}) {
    const view = new TokenView(this.axes, { enter: (index, token) => this.enter(index, token, at),
      leave: () => this.card.hideSoon(), select: (range) => this.select(range, at),
      pick: (index) => this.on.pick?.(index, at), ...more }, label);
    view.setAxis(this.legend.axis);
    this.columns.push({ at, view });
    return view;
  }

  viewOf(at) {
    return this.columns.find((column) => column.at === at)?.view;
  }

  /** The tokens of a text. @returns {Token[]} */
  rows(at = 0) {
    return this.viewOf(at)?.rows ?? [];
  }

  elements(at = 0) {
    return this.viewOf(at)?.elements ?? [];
  }

  enter(index, token, at) {
    const { pick } = this.on;
    this.card.onPick = pick ? (row) => pick(row.index, at) : null;
    this.card.show(this.rows(at)[index], token);
    this.mark(index, false, at);
  }

  // Nothing is pointed at: the token that the lens looks at is marked, or the one that has most to ask.
  rest() {
    const [index, at] = this.picked;
    this.mark(index ?? this.resting, false, at);
  }

  mark(index, bringIntoView = false, at = 0) {
    this.columns.forEach((column) =>
      column.view.mark(index === null ? null : this.partnerOf(index, at, column.at), bringIntoView));
  }

  partnerOf(index, from, to) {
    return index;
  }

  select(range, at) {
    this.columns.forEach((column) => column.view.select(range));
  }

  pick(index, at = 0) {
    this.picked = [index, at];
    this.columns.forEach((column) => column.view.pick(column.at === at ? index : null));
  }

  setLive(isLive) {
    this.isLive = isLive;
    this.columns.forEach(({ view }) => view.element.classList.toggle("is-live", isLive));
  }

  toTop() {
    this.columns.forEach(({ view }) => { view.element.scrollTop = 0; });
  }

  reveal(index) {
    this.columns.forEach(({ view }) => {
      view.makeCurrent(index);
      view.reveal(view.elements[index]);
    });
  }
}
