// Parts of the lessons' pictures: a slider over levels, bars, a passage of tokens.

import { h, setText, svg, uniqueId } from "../shared/dom.js";
import { SITE } from "../shared/site.js";
import { tokenNodes } from "../shared/tokens/token_text.js";

// Names of the answers to a lesson's question.
export const LETTERS = "ABC";

// A slider over given levels. Its value is spoken as the level's text, not as a number.
/** @param {{ label: string, axis?: string, levels: any[], text: (level: any) => string, at: number, show: (at: number) => void }} options */
export function levelSlider({ label, axis, levels, text, at, show }) {
  const input = h("input", { type: "range", class: "sol-range", min: 0, max: levels.length - 1, step: 1 });
  const value = h("output", { class: "sol-learn-level" });
  input.id = uniqueId("level");
  const update = () => {
    input.style.setProperty("--fill", levels.length > 1 ? input.value / (levels.length - 1) : 1);
    const words = text(levels[input.value]);
    setText(value, words);
    input.setAttribute("aria-valuetext", words);
    show(Number(input.value));
  };
  input.addEventListener("input", update);
  input.value = at;
  const set = (wanted) => {
    input.value = wanted;
    update();
  };
  const element = h("div", { class: "sol-slider", "data-axis": axis },
    h("div", { class: "sol-slider-head" }, h("label", { for: input.id }, label), value), input);
  return { element, update, set, get at() { return Number(input.value); } };
}

// A named bar with its value in words; `share` of the full length, in [0, 1].
export function barRow(name, share, value, className) {
  return h("div", { class: `sol-learn-bar ${className || ""}` }, h("span", { class: "sol-learn-bar-name" }, name),
    h("span", { class: "sol-meter", "aria-hidden": "true", "--v": Math.min(Math.max(share || 0, 0), 1) }),
    h("span", { class: "sol-value" }, value));
}

export function pickedText(text) {
  return h("b", { class: "sol-learn-word", dir: "auto" }, tokenNodes(text));
}

// A passage, token by token; those from `first` on can be coloured by a value. With a page size,
// marks show where the pages of the cache begin.
export class PassageView {
  constructor(texts, first, label, pageSize = Infinity) {
    this.first = first;
    this.tokens = texts.map((text, at) => h("span", {
      class: `${at < first ? "sol-learn-past" : "sol-token sol-learn-token"}${at % pageSize === 0 ? " is-page" : ""}`,
    }, text));
    this.element = h("p", { class: "sol-learn-passage", role: "group", "aria-label": label,
      dir: "auto" }, this.tokens);
  }

  // A click on a coloured token chooses it, for who sees the text; the keyboard has a slider. chosen(place)
  choosing(chosen) {
    this.element.classList.add("is-choosing");
    this.tokens.slice(this.first).forEach((token, place) => token.addEventListener("click", () => chosen(place)));
  }

  // This token is the chosen one.
  mark(place) {
    this.tokens.forEach((token, at) => token.classList.toggle("is-chosen", at === this.first + place));
  }

  // values: one per coloured token; `top` and more is the strongest colour.
  paint(values, top, title) {
    values.forEach((value, at) => {
      const token = this.tokens[this.first + at];
      const share = Math.min(Math.max((value ?? 0) / top, 0), 1);
      token.dataset.bin = Math.round(share * (SITE.numBins - 1));
      token.title = title(at);
    });
  }
}

// The scale below a coloured passage.
export function paintScale(low, high) {
  return h("span", { class: "sol-scale" }, h("span", { class: "sol-value" }, low),
    h("span", { class: "sol-scale-steps", "aria-hidden": "true" },
      Array.from({ length: SITE.numBins }, (_, bin) => h("span", { class: "sol-token sol-swatch", "data-bin": bin }))),
    h("span", { class: "sol-value" }, high));
}

// The two ends of a scale.
export const ends = (low, high) => h("div", { class: "sol-level-ends", "aria-hidden": "true" }, h("span", {}, low), h("span", {}, high));

// A line over levels, from 0 to `least` or, where the line goes higher, to its highest point.
export function curve(values, at, axis, least) {
  const top = Math.max(...values, least);
  const x = (place) => 1 + (98 * place) / Math.max(values.length - 1, 1);
  const y = (value) => 96 - (90 * value) / top;
  const points = values.map((value, place) => `${x(place).toFixed(2)} ${y(value).toFixed(2)}`);
  return h("div", { class: "sol-learn-axis", "data-axis": axis, "aria-hidden": "true" }, h("span", {}, top === 1 ? "1 nat" : `${+top.toFixed(2)} nats`), h("span", {}, "0"),
    svg("svg", { class: "sol-learn-curve", viewBox: "0 0 100 100", preserveAspectRatio: "none" },
      svg("path", { class: "is-grid", d: "M0 6H100M0 51H100" }),
      svg("path", { class: "is-line", d: `M${points.join("L")}` }),
      svg("path", { class: "is-dots", d: points.map((point) => `M${point}h0`).join("") }),
      svg("path", { class: "is-here", d: `M${points[at]}h0` })));
}
