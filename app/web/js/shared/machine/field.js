// The drawing of one step: every layer's KV cache as a strip of pages; below it bytes, channels and bits.

import { h, setText } from "../dom.js";
import { percent } from "../format.js";
import { FLOW, meanFraction, pagesRead, readersOf } from "./reads.js";
import { Sheet } from "./sheet.js";

const SHADES = [0, 0.42, 0.68, 1]; // of a page's level: how far from dark to lit
const FLOW_COLOURS = { attention: "attention", mlp: "channels", head: "edge", policy: "edge" };
/** @type {[number, string][]} */
const KEYS = [[1, "read"], [0.55, "in part"], [0, "skipped"]];
const KEY_SIZE = 8;
const KEY_WIDTH = 62;
const HEAD_MIDDLE = 6; // of the line above the pages: px
const NAME_TALL = 13; // px of a page's name

/**
 * What there are lanes for. names: of each cell of pages; layers: where no pages tell. fractions: of MLP
 * channels; keeps: of attention, where it is by layer.
 * @typedef {{ reads?: import("./reads.js").Reads | null, fractions?: (number | number[])[], keeps?: number[],
 *   flow?: number[], bits?: number, names?: string[] | null, layers?: number }} Step
 */

/** @param {Sheet} sheet @param {Step} step */
function drawLanes(sheet, { reads, fractions = [], keeps, flow, bits, names }) {
  const { lanes } = sheet.layout;
  if (lanes.pages && !reads && keeps) drawAllowed(sheet, keeps);
  else if (lanes.pages && !reads) drawUnknown(sheet);
  else if (lanes.pages) drawPageNames(sheet, reads, names ?? []);
  if (lanes.flow) drawFlow(sheet, flow);
  if (lanes.input) drawChannels(sheet, "input", "MLP input", fractions[0]);
  if (lanes.inner) drawChannels(sheet, "inner", "inner", fractions[1]);
  if (lanes.bits) drawBits(sheet, bits);
}

function drawName(sheet, name, number, middle) {
  const y = middle * sheet.scale;
  sheet.write(name, sheet.left - 7 * sheet.scale, y, "right");
  sheet.write(number, sheet.right + 6 * sheet.scale, y);
}

function middleOf(sheet, lane) {
  const [top, height] = sheet.layout.lanes[lane];
  return top + height / 2 + 0.5;
}

function drawUnknown(sheet) {
  const [top, height] = sheet.lane("pages");
  sheet.fill("sunken", sheet.left, top, sheet.right - sheet.left, height);
  sheet.write("not recorded", (sheet.left + sheet.right) / 2, top + height / 2, "center");
  drawName(sheet, "pages", "", middleOf(sheet, "pages"));
}

// What each layer may read, from the bottom up, where nobody recorded what it read.
function drawAllowed(sheet, keeps) {
  const [top, height] = sheet.lane("pages");
  drawColumns(sheet, (layer, x, width) => {
    const tall = Math.round((keeps[layer] ?? 0) * height);
    sheet.fill("track", x, top, width, height);
    sheet.fill("attention", x, top + height - tall, width, tall);
  });
  drawName(sheet, "attention", percent(meanFraction(keeps)), middleOf(sheet, "pages"));
}

// The cells that most layers read, and of others as many as have room for a name beside them.
function cellsToName(readers, each, top) {
  const order = readers.map((_, cell) => cell)
    .filter((cell) => top + (cell + 0.5) * each >= HEAD_MIDDLE + NAME_TALL) // the lane has a name too
    .sort((one, other) => readers[other] - readers[one]);
  return order.reduce((/** @type {number[]} */ named, cell) => (
    named.some((other) => Math.abs(other - cell) * each < NAME_TALL) ? named : [...named, cell]), []);
}

function drawPageNames(sheet, reads, names) {
  const { lanes: { pages: [top, height] }, pageHeight = 0, isWhole } = sheet.layout;
  const each = Math.min(pageHeight, height / reads.cells);
  const readers = readersOf(reads);
  drawName(sheet, isWhole ? "pages" : "", isWhole ? `${pagesRead(reads)} of ${reads.pages}` : "layers",
    HEAD_MIDDLE);
  cellsToName(readers, each, top).forEach((cell) => drawName(sheet, sheet.fitting(names[cell] ?? ""),
    `${readers[cell]} of ${reads.layers}`, top + (cell + 0.5) * each));
  const y = HEAD_MIDDLE * sheet.scale;
  sheet.write("Layer 1", sheet.left, y);
  sheet.write(`${reads.layers}`, sheet.right - sheet.gap, y, "right");
  const [wide, size] = [KEY_WIDTH * sheet.scale, KEY_SIZE * sheet.scale];
  const first = (sheet.left + sheet.right - KEYS.length * wide) / 2;
  if (first < sheet.left + wide) return;
  KEYS.forEach(([shade, text], at) => {
    const x = Math.round(first + at * wide);
    sheet.fill(`rgb(${sheet.lights[sheet.light(shade)].join(" ")})`, x, Math.round(y - size / 2), size, size);
    sheet.write(text, x + size + 5 * sheet.scale, y);
  });
}

// All that the full model reads is the whole length.
function drawFlow(sheet, flow) {
  const [top, height] = sheet.lane("flow");
  const width = sheet.right - sheet.left;
  sheet.fill("track", sheet.left, top, width, height);
  let sum = 0;
  flow.forEach((share, which) => {
    const [part, from] = [FLOW[which], Math.round(sum * width)];
    sum += share;
    const long = Math.round(sum * width) - from;
    sheet.fill(FLOW_COLOURS[part], sheet.left + from, top, long, height);
    const name = part === "mlp" ? "MLP" : part;
    if (sheet.brush.measureText(name).width < long) {
      sheet.write(name, sheet.left + from + long / 2, top + height / 2, "center", "panel");
    }
  });
  drawName(sheet, "bytes", percent(sum), middleOf(sheet, "flow"));
}

function drawChannels(sheet, lane, name, fractions) {
  const [top, height] = sheet.lane(lane);
  drawColumns(sheet, (layer, x, width) => {
    const kept = Array.isArray(fractions) ? fractions[layer] ?? 0 : fractions;
    sheet.fill("track", x, top, width, height);
    sheet.fill("channels", x, top, kept * width, height);
  });
  drawName(sheet, name, percent(meanFraction(fractions)), middleOf(sheet, lane));
}

function drawColumns(sheet, draw) {
  for (let layer = 0; layer < sheet.layers; layer += 1) {
    const x = sheet.edge(layer);
    draw(layer, x, sheet.edge(layer + 1) - x - sheet.gap);
  }
}

function drawBits(sheet, bits) {
  const [top, height] = sheet.lane("bits");
  const width = (sheet.right - sheet.left) / 16;
  for (let at = 0; at < 16; at += 1) {
    const x = sheet.left + Math.round(at * width);
    sheet.fill(at < bits ? "bits" : "track", x, top, Math.round(width - 2 * sheet.scale), height);
  }
  drawName(sheet, "bits", `${bits} of 16`, middleOf(sheet, "bits"));
}

const LEAST_PARTED = 4; // pixels: taller pages have a line between them

export class Field {
  /** @type {Step | null} */
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
    const tall = Math.min(height, Math.round((sheet.layout.pageHeight ?? 0) * sheet.scale * cells));
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

  // said: the caption; more: what else the picture shows.
  draw(step, said, more) {
    this.field.show(step);
    setText(this.caption, said);
    this.drawing.setAttribute("aria-label", `The machine: ${said} ${more}`);
  }
}
