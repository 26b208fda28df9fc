// The drawing of one step, frame by frame: the KV cache of every layer as a strip of pages, which fade from step to
// step; the rest is drawn once a step.

import { h, isCalm } from "../dom.js";
import { drawLanes, SHADES } from "./lanes.js";
import { Sheet } from "./sheet.js";

const FADE_MS = 120;
const LEAST_PARTED = 4; // pixels: taller pages have a line between them

export class Field {
  /** Of every page of every layer, 0 dark to 1 lit: as drawn, whence it fades, and where to. */
  shades = new Float32Array(0);
  from = this.shades;
  target = this.shades;
  begin = 0; // of the fading: ms
  /** @type {import("./lanes.js").Step | null} */
  step = null;

  /** @param {import("./sheet.js").Layout} [layout] of a part of the step; the whole one without */
  constructor(layout) {
    this.sheet = new Sheet(() => this.ask(), layout);
    this.element = this.sheet.element;
  }

  // Is drawn with the next frame. Pages fade where the cache has as many layers as before and no fewer pages.
  show(step) {
    const before = this.step?.reads;
    this.step = step;
    if (step?.reads) {
      const { layers, cells, levels } = step.reads;
      const isLike = before && before.layers === layers && before.cells <= cells && !isCalm();
      this.target = Float32Array.from(levels, (level) => SHADES[level]);
      this.shades = isLike ? this.target.map((_, at) => this.shadeOf(Math.floor(at / cells), at % cells, before.cells))
        : this.target.slice();
      this.from = this.shades.slice();
      this.begin = isLike ? performance.now() : -FADE_MS;
    }
    this.ask();
  }

  shadeOf(layer, cell, cells) {
    return cell < cells ? this.shades[layer * cells + cell] : 0;
  }

  ask() {
    this.isNew = true;
    this.frame ??= requestAnimationFrame((now) => this.draw(now));
  }

  // All once, then only the pages until they have faded in.
  draw(now) {
    this.frame = null;
    const size = this.sheet.measure();
    if (size === "none") return;
    const reads = this.step?.reads;
    if (this.isNew || size === "new") {
      this.sheet.clear(this.step?.layers ?? reads?.layers ?? 1);
      if (this.step) drawLanes(this.sheet, this.step);
    }
    this.isNew = false;
    if (!reads) return;
    const done = Math.min(1, Math.max(0, (now - this.begin) / FADE_MS));
    this.target.forEach((goal, at) => { this.shades[at] = this.from[at] + done * (goal - this.from[at]); });
    this.drawPages(reads.cells);
    if (done < 1) this.frame = requestAnimationFrame((next) => this.draw(next));
  }

  // Pixel by pixel, so that every page has sharp edges at any size; the oldest at the top.
  drawPages(cells) {
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
        (layer) => sheet.pixels[sheet.light(this.shades[layer * cells + cell])]);
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
