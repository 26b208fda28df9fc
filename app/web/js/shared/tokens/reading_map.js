// The reading map: pages of the text across, generated tokens down; darker where more layers and heads read.

import { drawInTurn, h, show, watchPointer, whenThemeChanges } from "../dom.js";
import { fractionsOf } from "../machine/reads.js";

const MOST_HEIGHT = 260; // px
const LEAST_ROWS = 4; // before them there is nothing to see

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
      h("summary", {}, "Map of the run"), this.field,
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
