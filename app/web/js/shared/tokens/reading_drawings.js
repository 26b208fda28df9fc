// What steps read, drawn: two strips of bars over the pages of a text, and the map of a whole run.

import { drawInTurn, h, setText, show, svg, watchPointer, whenThemeChanges } from "../dom.js";
import { fractionsOf } from "../machine/reads.js";

const STRIPS_WIDTH = 1000; // of the drawing, which its place stretches
const STRIPS_TALL = 34; // of a strip
const STRIPS_GAP = 2; // between both
const BAR = 0.84; // of the room of a page
const STRIPS_HEIGHT = STRIPS_TALL * 2 + STRIPS_GAP;

export const FIRST_PAGE = new Set([0]); // that every step needs

/** Bars of one strip as a path. The largest is as tall as the strip, but for those of pages that tell
 * nothing: they may be cut off, and are drawn apart (isApart). What was needed hangs from the base, and all
 * of a word's probability is as tall as the strip.
 * @param {number[]} values @param {{ x?: number, base: number, width: number, tall: number,
 * isNeed?: boolean, isApart?: boolean }} place @param {Set<number>} apart */
export function barsPath(values, { x = 0, base, width, tall, isNeed = false, isApart = false }, apart) {
  const most = isNeed ? 1 : Math.max(...values.filter((_, page) => !apart.has(page)), 1e-9);
  const step = width / values.length;
  return values.map((value, page) => (value > 0 && isApart === apart.has(page)
    ? `M${(x + page * step).toFixed(2)} ${base}`
      + `v${((isNeed ? tall : -tall) * Math.min(value / most, 1)).toFixed(2)}`
      + `h${(step * BAR).toFixed(2)}V${base}z` : "")).join("");
}

// Above what a step looked at, below what it needed.
export class Strips {
  numPages = 0;

  // on: {choose(page), canChoose(page)}, and where it can be done point(page) and leave()
  constructor(on) {
    this.paths = Object.fromEntries(["marked", "apart", "looked", "needed", "struck"].map((name) =>
      [name, svg("path", { class: `sol-strip-${name}` })]));
    this.field = svg("svg", { viewBox: `0 0 ${STRIPS_WIDTH} ${STRIPS_HEIGHT}`, preserveAspectRatio: "none",
      "aria-hidden": "true" }, Object.values(this.paths));
    const meaning = "How much of the word's probability goes without each page: a full bar is all of it";
    this.names = [h("span", {}), h("span", { title: meaning }, "Needed")];
    this.element = h("div", { class: "sol-strips" }, h("div", { class: "sol-strip-names" }, this.names),
      this.field);
    const pageAt = ({ clientX }) => {
      const { left, width } = this.field.getBoundingClientRect();
      return Math.min(Math.max(Math.floor((clientX - left) / width * this.numPages), 0), this.numPages - 1);
    };
    this.field.addEventListener("pointermove", (event) => {
      this.element.classList.toggle("is-choosable", on.canChoose(pageAt(event)));
      on.point?.(pageAt(event));
    });
    this.field.addEventListener("pointerleave", () => on.leave?.());
    this.field.addEventListener("click", (event) => on.canChoose(pageAt(event)) && on.choose(pageAt(event)));
  }

  /** looked, needed: by page; needed: null before it is known; name: of what looked holds, the attention of
   * all heads or the fraction of them that read a page.
   * @param {number[]} looked @param {number[] | null} needed
   * @param {Set<number>} [apart] pages that tell nothing */
  draw(looked, needed, apart = FIRST_PAGE, name = "Read") {
    this.values = { looked, needed, apart, name };
    setText(this.names[0], name);
    this.numPages = looked.length;
    const above = { width: STRIPS_WIDTH, tall: STRIPS_TALL, base: STRIPS_TALL };
    const below = { ...above, base: STRIPS_TALL + STRIPS_GAP, isNeed: true };
    this.paths.looked.setAttribute("d", barsPath(looked, above, apart));
    this.paths.needed.setAttribute("d", needed ? barsPath(needed, below, apart) : "");
    this.paths.apart.setAttribute("d", barsPath(looked, { ...above, isApart: true }, apart)
      + (needed ? barsPath(needed, { ...below, isApart: true }, apart) : ""));
    this.element.classList.toggle("is-half", !needed);
  }

  /** @param {number | null} page @param {Iterable<number>} struck pages that are left out */
  mark(page, struck = []) {
    const step = STRIPS_WIDTH / this.numPages;
    const wide = Math.max(step * BAR, 2).toFixed(2);
    this.paths.marked.setAttribute("d", page === null ? ""
      : `M${(page * step).toFixed(2)} 0h${wide}v${STRIPS_HEIGHT}h-${wide}z`);
    this.paths.struck.setAttribute("d", Array.from(struck, (one) =>
      `M${(one * step).toFixed(2)} ${STRIPS_HEIGHT}l${wide} -${STRIPS_HEIGHT}`).join(""));
  }
}

const MOST_HEIGHT = 260; // px
const LEAST_ROWS = 4; // before them there is nothing to see

// Pages of the text across, generated tokens down; darker where more layers and heads read.
export class ReadingMap {
  /** @type {Token[]} */
  rows = [];

  // on: {mark(index), select(range)}
  constructor(on) {
    this.on = on;
    this.canvas = h("canvas", { class: "sol-reading-canvas", role: "img",
      "aria-label": "Reading map: pages of the text across, generated tokens down. A dark column is a page "
        + "that many steps read; the edge on the right is the newest text." });
    this.bar = h("div", { class: "sol-reading-row", hidden: true });
    this.field = h("div", { class: "sol-reading-field" }, this.canvas, this.bar);
    this.element = h("details", { class: "sol-reading-map", ontoggle: () => this.draw() },
      h("summary", {}, "Whole run"), this.field,
      h("p", { class: "sol-muted" },
        "Across: pages of prompt and answer. Down: generated tokens. Darker: read by more of the heads. "
          + "Drag to select tokens."));
    watchPointer(this.field, (event) => this.tokenAt(event), on);
    whenThemeChanges(() => this.draw());
    this.clear();
  }

  tokenAt(event) {
    const { top, height } = this.canvas.getBoundingClientRect();
    const token = Math.floor((event.clientY - top) / height * this.rows.length);
    return Math.min(Math.max(token, 0), this.rows.length - 1);
  }

  clear() {
    this.rows = [];
    show(this.element, false);
    show(this.bar, false);
  }

  follow(rows) {
    this.rows = rows;
    show(this.element, rows.length >= LEAST_ROWS);
    drawInTurn(this, () => this.draw());
  }

  draw() {
    if (!this.element.open || !this.rows.length) return;
    const width = Math.max(...this.rows.map((row) => row.page_reads?.pages ?? 0));
    const height = this.rows.length;
    if (!width) return;
    Object.assign(this.canvas, { width, height });
    this.field.style.height = `${Math.min(MOST_HEIGHT, Math.max(6 * height, 60))}px`;
    const context = this.canvas.getContext("2d");
    const image = context.createImageData(width, height);
    const [red, green, blue] = (getComputedStyle(this.field).color.match(/[\d.]+/g) ?? [0, 0, 0]).map(Number);
    this.rows.forEach((row, token) => {
      const read = fractionsOf(row);
      for (let page = 0; read && page < (row.page_reads?.pages ?? 0); page += 1) {
        image.data.set([red, green, blue, Math.round(255 * read(page) ** 0.7)], 4 * (token * width + page));
      }
    });
    context.putImageData(image, 0, 0);
  }

  mark(index) {
    show(this.bar, index !== null && this.rows.length > 0);
    this.bar.style.top = `${100 * index / this.rows.length}%`;
    this.bar.style.height = `${100 / this.rows.length}%`;
  }
}
