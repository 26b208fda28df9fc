// Two strips of bars over the pages of a text: above what a step looked at, below what it needed.

import { h, svg } from "../dom.js";

const STRIPS_WIDTH = 1000; // of the drawing, which its place stretches
const STRIPS_TALL = 34; // of a strip
const STRIPS_GAP = 2; // between both
const STRIPS_HEIGHT = STRIPS_TALL * 2 + STRIPS_GAP;

/** Bars of one strip as a path, the largest as tall as the strip, but for the first page's: every step needs
 * it, so it may be cut off, and is drawn apart (isFirst). They hang from the base of a strip upside down.
 * @param {number[]} values @param {{ x?: number, base: number, width: number, tall: number,
 * isDown?: boolean, isFirst?: boolean }} place */
export function barsPath(values, { x = 0, base, width, tall, isDown = false, isFirst = false }) {
  const most = Math.max(...(values.length > 1 ? values.slice(1) : values), 1e-9);
  const step = width / values.length;
  return values.map((value, page) => (value > 0 && isFirst === (page === 0)
    ? `M${(x + page * step).toFixed(2)} ${base}`
      + `v${((isDown ? tall : -tall) * Math.min(value / most, 1)).toFixed(2)}`
      + `h${(step * 0.84).toFixed(2)}V${base}z` : "")).join("");
}

export class Strips {
  numPages = 0;

  // on: {point(page), leave(), choose(page)}
  constructor(on) {
    const part = (name) => svg("path", { class: `sol-strip-${name}` });
    this.looked = part("looked");
    this.needed = part("needed");
    this.marked = part("marked");
    this.first = part("first");
    this.field = svg("svg", { viewBox: `0 0 ${STRIPS_WIDTH} ${STRIPS_HEIGHT}`, preserveAspectRatio: "none",
      "aria-hidden": "true" }, this.marked, this.first, this.looked, this.needed);
    this.names = [h("span", {}, "Looked at"), h("span", {}, "Needed")];
    this.element = h("div", { class: "sol-strips" }, h("div", { class: "sol-strip-names" }, this.names),
      this.field);
    const pageAt = ({ clientX }) => {
      const { left, width } = this.field.getBoundingClientRect();
      return Math.min(Math.max(Math.floor((clientX - left) / width * this.numPages), 0), this.numPages - 1);
    };
    this.field.addEventListener("pointermove", (event) => on.point(pageAt(event)));
    this.field.addEventListener("pointerleave", () => on.leave());
    this.field.addEventListener("click", (event) => on.choose(pageAt(event)));
  }

  /** looked: by page; needed: KL without the page, null before it is known. @param {number[]} looked
   * @param {number[] | null} needed */
  draw(looked, needed) {
    this.values = { looked, needed };
    this.numPages = looked.length;
    const above = { width: STRIPS_WIDTH, tall: STRIPS_TALL, base: STRIPS_TALL };
    const below = { ...above, base: STRIPS_TALL + STRIPS_GAP, isDown: true };
    this.looked.setAttribute("d", barsPath(looked, above));
    this.needed.setAttribute("d", needed ? barsPath(needed, below) : "");
    this.first.setAttribute("d", barsPath(looked, { ...above, isFirst: true })
      + (needed ? barsPath(needed, { ...below, isFirst: true }) : ""));
    this.element.classList.toggle("is-half", !needed);
  }

  /** @param {Iterable<number>} pages */
  mark(pages) {
    const step = STRIPS_WIDTH / this.numPages;
    const wide = Math.max(step, 2).toFixed(2);
    this.marked.setAttribute("d", Array.from(pages, (page) =>
      `M${(page * step).toFixed(2)} 0h${wide}v${STRIPS_HEIGHT}h-${wide}z`).join(""));
  }
}
