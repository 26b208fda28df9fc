// The drawing of one step: the KV cache of every layer as a strip of pages, the MLP's channels below it, the
// bits, and between them what flows, as thick as it has bytes.

import { h, isCalm, whenThemeChanges } from "../dom.js";
import { percent } from "../format.js";
import { FLOW } from "./reads.js";
import { pagesRead } from "./words.js";

const FADE_MS = 120;
const SHADES = [0, 0.42, 0.68, 1]; // of a level: how far from dark to lit
const STEPS = 63; // of the colours from dark to lit
const LANES = { pages: [16, 80], flow: [102, 14], input: [124, 5], inner: [132, 5], bits: [145, 7] }; // top, height: px
const LEFT = [24, 88]; // from the policy's lines to the names, and to the first layer: px
const RIGHT = 44; // of the numbers
const PAGE_HEIGHT = 10; // at most, px
const TALLEST_GAPLESS = 4; // px of the screen: taller pages have a line between them
const FONT = 11; // px
const POLICY_AT = [0.2, 0.54, 0.88]; // of the height: where the policy's three choices come in
const COLOURS = ["attention", "channels", "bits", "kl", "accent", "track", "panel", "sunken", "muted", "line"];
const FLOW_COLOURS = { attention: "attention", mlp: "channels", head: "kl", policy: "accent" };
const FIELD_HEIGHT = 154;

const rgbOf = (hex) => [1, 3, 5].map((at) => parseInt(hex.slice(at, at + 2), 16));
const mixed = (from, to, share) => from.map((one, at) => Math.round(one + share * (to[at] - one)));
const word = ([red, green, blue]) => ((255 << 24) | (blue << 16) | (green << 8) | red) >>> 0;

export class Field {
  /** Drawn: of every page of every layer, 0 dark to 1 lit; whence it fades, and where to. */
  shades = new Float32Array(0);
  from = this.shades;
  target = this.shades;
  begin = 0; // of the fading: ms
  width = 0; // px

  constructor() {
    this.element = h("canvas", { class: "sol-machine-field", height: FIELD_HEIGHT });
    this.brush = this.element.getContext("2d");
    this.step = null;
    this.hasPolicy = true; // beside it, whose choices come in from the left
    const recolour = () => { this.colours = null; this.ask(); };
    whenThemeChanges(recolour);
    matchMedia("(prefers-color-scheme: dark)").addEventListener("change", recolour);
    new ResizeObserver(([{ contentRect }]) => {
      this.width = contentRect.width;
      this.ask();
    }).observe(this.element);
  }

  // step: {reads, shares, flow, bits}, or null; drawn with the next frame.
  show(step) {
    const before = this.step?.reads;
    this.step = step;
    if (!step?.reads) {
      this.ask();
      return;
    }
    const { layers, cells, levels } = step.reads;
    const isLike = before?.layers === layers && before.cells <= cells && !isCalm();
    const target = Float32Array.from(levels, (level) => SHADES[level]);
    const from = isLike ? target.map((_, at) => this.shadeAt(Math.floor(at / cells), at % cells, before.cells)) : target;
    Object.assign(this, { from, target, shades: from.slice(), begin: isLike ? performance.now() : -FADE_MS });
    this.ask();
  }

  shadeAt(layer, cell, cells) {
    return cell < cells ? this.shades[layer * cells + cell] : 0;
  }

  ask() {
    this.isNew = true;
    this.frame ??= requestAnimationFrame((now) => this.draw(now));
  }

  // All once, then only the pages until they have faded in.
  draw(now) {
    this.frame = null;
    if (!this.measure()) return;
    if (this.isNew) this.drawAll();
    this.isNew = false;
    if (!this.step?.reads) return;
    const done = Math.min(1, Math.max(0, (now - this.begin) / FADE_MS));
    for (let at = 0; at < this.target.length; at += 1) {
      this.shades[at] = this.from[at] + done * (this.target[at] - this.from[at]);
    }
    this.drawPages();
    if (done < 1) this.frame = requestAnimationFrame((next) => this.draw(next));
  }

  // Where things are, in pixels of the screen; false while it is not shown.
  measure() {
    const scale = devicePixelRatio;
    const width = Math.round(this.width * scale);
    if (!width) return false;
    if (this.element.width !== width || this.scale !== scale) {
      Object.assign(this.element, { width, height: Math.round(FIELD_HEIGHT * scale) });
      this.scale = scale;
      this.isNew = true;
    }
    this.colours ??= this.readColours();
    this.left = Math.round((this.hasPolicy ? LEFT[1] : LEFT[1] - LEFT[0]) * scale);
    this.right = width - Math.round(RIGHT * scale);
    return this.right - this.left > 60;
  }

  readColours() {
    const style = getComputedStyle(this.element);
    const colours = Object.fromEntries(COLOURS.map((name) => [name, style.getPropertyValue(`--sol-${name}`).trim()]));
    const [dark, lit] = [rgbOf(colours.track), rgbOf(colours.attention)];
    this.lights = Uint32Array.from({ length: STEPS + 1 }, (_, at) => word(mixed(dark, lit, at / STEPS)));
    this.well = word(mixed(rgbOf(colours.panel), rgbOf(colours.track), 0.4));
    this.font = style.fontFamily;
    return colours;
  }

  lane(name) {
    const [top, height] = LANES[name];
    const at = Math.round(top * this.scale);
    return [at, Math.round((top + height) * this.scale) - at];
  }

  // Left edge of a layer's column, or of the one behind the last.
  edge(layer) {
    return this.left + Math.round(layer * (this.right - this.left) / this.layers);
  }

  get layers() {
    return this.step?.reads?.layers ?? 1;
  }

  drawAll() {
    const { brush, step, scale } = this;
    brush.clearRect(0, 0, this.element.width, this.element.height);
    brush.font = `${FONT * scale}px ${this.font}`;
    this.gap = Math.max(1, Math.round(Math.min(3 * scale, (this.edge(1) - this.edge(0)) / 4)));
    if (!step) return;
    if (!step.reads) this.drawUnknown();
    this.drawFlow(step.flow);
    step.shares.forEach((share, at) => this.drawChannels(at ? "inner" : "input", share));
    this.drawBits(step.bits);
    this.drawNames(step);
    if (this.hasPolicy) this.drawChoices();
  }

  fill(colour, x, y, width, height) {
    this.brush.fillStyle = this.colours[colour];
    this.brush.fillRect(x, y, width, height);
  }

  drawUnknown() {
    const [top, height] = this.lane("pages");
    this.fill("sunken", this.left, top, this.right - this.left, height);
    this.write("not recorded", (this.left + this.right) / 2, top + height / 2, "center");
  }

  // Full height: what a dense step reads.
  drawFlow(flow) {
    const [top, height] = this.lane("flow");
    const end = this.element.width;
    this.fill("track", this.left, top, end - this.left, height);
    const parts = flow.map((share) => share * height);
    let at = top + Math.max(0, height - parts.reduce((sum, part) => sum + part, 0)) / 2;
    parts.forEach((part, which) => {
      this.fill(FLOW_COLOURS[FLOW[which]], this.left, at, end - this.left, part);
      at += part;
    });
  }

  drawChannels(name, share) {
    const [top, height] = this.lane(name);
    for (let layer = 0; layer < this.layers; layer += 1) {
      const x = this.edge(layer);
      const width = this.edge(layer + 1) - x - this.gap;
      this.fill("track", x, top, width, height);
      this.fill("channels", x, top, Math.round(share * width), height);
    }
  }

  drawBits(bits) {
    const [top, height] = this.lane("bits");
    const width = (this.right - this.left) / 16;
    for (let at = 0; at < 16; at += 1) {
      const x = this.left + Math.round(at * width);
      this.fill(at < bits ? "bits" : "track", x, top, Math.round(width - 2 * this.scale), height);
    }
  }

  write(text, x, y, align = "left", colour = "muted") {
    const { brush } = this;
    brush.fillStyle = this.colours[colour];
    brush.textAlign = /** @type {CanvasTextAlign} */ (align);
    brush.textBaseline = "middle";
    brush.fillText(text, x, y);
  }

  drawNames({ reads, shares, bits }) {
    const { scale } = this;
    const middle = (name) => LANES[name][0] + LANES[name][1] / 2;
    const left = this.left - 7 * scale;
    const right = this.right + 5 * scale;
    const name = (text, y) => this.write(text, left, y * scale, "right");
    const value = (text, y) => this.write(text, right, y * scale, "left");
    if (reads) {
      const tall = Math.min(PAGE_HEIGHT * reads.cells, LANES.pages[1]);
      name("oldest", LANES.pages[0] + 5);
      if (tall > 24) name("newest page", LANES.pages[0] + tall - 5);
      value(`${pagesRead(reads)} of ${reads.pages}`, LANES.pages[0] + 5);
      this.write("Layer 1", this.left, 6 * scale);
      this.write(`${reads.layers}`, this.right - this.gap, 6 * scale, "right");
    }
    name("bytes", middle("flow"));
    name("MLP input", middle("input") - 1);
    name("inner", middle("inner") + 2);
    value(percent(shares[0]), middle("input") - 2);
    value(percent(shares[1]), middle("inner") + 2);
    name("bits", middle("bits"));
    value(`${bits} of 16`, middle("bits"));
  }

  // The policy's three choices come in: to the pages, to the channels, to the bits.
  drawChoices() {
    const { brush, scale } = this;
    const goals = { attention: 56, channels: 130, bits: 148 };
    Object.entries(goals).forEach(([colour, goal], at) => {
      const [from, to, end] = [POLICY_AT[at] * FIELD_HEIGHT * scale, goal * scale, LEFT[0] * scale];
      brush.strokeStyle = this.colours[colour];
      brush.lineWidth = 2 * scale;
      brush.beginPath();
      brush.moveTo(0, from);
      brush.bezierCurveTo(end * 0.6, from, end * 0.3, to, end, to);
      brush.stroke();
    });
  }

  // Pixel by pixel, so that every page has sharp edges at any size.
  drawPages() {
    const { cells } = this.step.reads;
    const [top, height] = this.lane("pages");
    const width = this.right - this.left;
    const image = this.brush.createImageData(width, height);
    const pixels = new Uint32Array(image.data.buffer);
    const tall = Math.min(height, Math.round(PAGE_HEIGHT * this.scale * cells));
    const line = tall / cells > TALLEST_GAPLESS ? 1 : 0;
    for (let cell = 0; cell <= cells; cell += 1) {
      const [from, to] = cell < cells ? [cell, cell + 1].map((at) => Math.round(at * tall / cells)) : [tall, height];
      if (to <= from) continue;
      for (let layer = 0; layer < this.layers; layer += 1) {
        const colour = cell < cells ? this.lights[Math.round(this.shades[layer * cells + cell] * STEPS)] : this.well;
        const x = from * width - this.left;
        pixels.fill(colour, x + this.edge(layer), x + this.edge(layer + 1) - this.gap);
      }
      const last = cell < cells ? Math.max(from + 1, to - line) : to;
      for (let y = from + 1; y < last; y += 1) pixels.copyWithin(y * width, from * width, (from + 1) * width);
    }
    this.brush.putImageData(image, this.left, top);
  }
}
