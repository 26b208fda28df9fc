// The drawing of one step: the KV cache of every layer as a strip of pages, and the lanes below it.

import { h } from "../dom.js";
import { drawLanes, SHADES } from "./lanes.js";
import { Sheet } from "./sheet.js";

const LEAST_PARTED = 4; // pixels: taller pages have a line between them

export class Field {
  /** @type {import("./lanes.js").Step | null} */
  step = null;

  /** @param {import("./sheet.js").Layout} [layout] of a part of the step; the whole one without */
  constructor(layout) {
    this.sheet = new Sheet(() => this.ask(), layout);
    this.element = this.sheet.element;
  }

  show(step) {
    this.step = step;
    this.ask();
  }

  ask() {
    this.frame ??= requestAnimationFrame(() => this.draw());
  }

  draw() {
    this.frame = null;
    const { sheet, step } = this;
    if (!sheet.measure()) return;
    sheet.clear(step?.layers ?? step?.reads?.layers ?? 1);
    if (step) drawLanes(sheet, step);
    if (step?.reads) this.drawPages(step.reads);
  }

  // Pixel by pixel, so that every page has sharp edges at any size; the oldest at the top.
  /** @param {import("./reads.js").Reads} reads */
  drawPages({ cells, levels }) {
    const { sheet } = this;
    const [top, height] = sheet.lane("pages");
    const width = sheet.right - sheet.left;
    const image = sheet.brush.createImageData(width, height);
    const pixels = new Uint32Array(image.data.buffer);
    const tall = Math.min(height, Math.round(sheet.layout.pageHeight * sheet.scale * cells));
    const line = tall / cells > LEAST_PARTED ? 1 : 0;
    const rows = (from, to, colourOf) => {
      if (to <= from) return;
      for (let layer = 0; layer < sheet.layers; layer += 1) {
        const begin = from * width - sheet.left;
        pixels.fill(colourOf(layer), begin + sheet.edge(layer), begin + sheet.edge(layer + 1) - sheet.gap);
      }
      for (let y = from + 1; y < to; y += 1) pixels.copyWithin(y * width, from * width, (from + 1) * width);
    };
    for (let cell = 0; cell < cells; cell += 1) {
      rows(Math.round(cell * tall / cells), Math.round((cell + 1) * tall / cells) - line,
        (layer) => sheet.pixels[sheet.light(SHADES[levels[layer * cells + cell]])]);
    }
    rows(tall, height, () => sheet.well);
    sheet.brush.putImageData(image, sheet.left, top);
  }
}

// A part of the machine with its words: a caption below it, and all of it for who does not see it.
export class Zoom {
  /** @param {import("./sheet.js").Layout} layout */
  constructor(layout) {
    this.field = new Field(layout);
    this.drawing = h("div", { role: "img" }, this.field.element);
    this.caption = h("p", {});
    this.element = h("div", { class: "sol-zoom" }, this.drawing, this.caption);
  }

  // said: the caption; more: what the picture shows besides; shown: the caption's nodes, where it is not plain.
  draw(step, said, more, shown = [said]) {
    this.field.show(step);
    this.caption.replaceChildren(...shown);
    this.drawing.setAttribute("aria-label", `The machine: ${said} ${more}`);
  }
}
