// The canvas of the machine: its size in pixels of the screen, its colours, where its lanes are.

import { h, whenThemeChanges } from "../dom.js";
import { AXES } from "../format.js";

const [NAMES, NUMBERS, OUTCOME] = [110, 62, 132]; // widths beside the lanes: px
const NARROW = 520; // px of the sheet: then names are short

/**
 * What is drawn, and where: px. height: of the sheet; lanes: top and height of each that there is;
 * pageHeight: at most; wideNames: width of the names where there is room; isWhole: with the outcome beside.
 * @typedef {{ height: number, lanes: Record<string, [number, number]>, pageHeight?: number,
 *   wideNames?: number, isWhole?: boolean }} Layout
 */

/** @type {Layout} */
const WHOLE_STEP = {
  height: 161,
  lanes: { pages: [16, 78], flow: [100, 16], input: [124, 6], inner: [137, 6], bits: [150, 7] },
  pageHeight: 13, // so that a few have all their words
  wideNames: 178,
  isWhole: true,
};
const LABEL = 12; // px
const LEAST_WIDE = 60; // pixels of the lanes
const LIGHTS = 63; // steps from dark to lit
const SHEET_COLOURS = [...AXES.map((axis) => axis.key), "edge", "track", "panel", "sunken", "muted"];

const rgbOf = (hex) => [1, 3, 5].map((at) => parseInt(hex.slice(at, at + 2), 16));
const mixed = (from, to, weight) => from.map((one, at) => Math.round(one + weight * (to[at] - one)));
const packed = ([red, green, blue]) => ((255 << 24) | (blue << 16) | (green << 8) | red) >>> 0;

export class Sheet {
  width = 0; // px
  scale = 1; // pixels a px
  layers = 1; // columns
  left = 0; // pixels: where the lanes begin
  right = 0; // and end
  gap = 1; // pixels between columns
  layout = WHOLE_STEP;
  pixels = new Uint32Array(0); // colours from dark to lit, as an image has them
  light = (shade) => Math.round(shade * LIGHTS); // of shades from dark, 0, to lit, 1
  isWide = true; // choice and outcome stand on its left and on its right end, not above and below

  /** @param {() => void} changed @param {Layout} [layout] */
  constructor(changed, layout = WHOLE_STEP) {
    this.element = h("canvas", { class: "sol-machine-field", "aria-hidden": "true" });
    this.arrange(layout);
    this.brush = this.element.getContext("2d");
    const recolour = () => {
      this.colours = null;
      changed();
    };
    whenThemeChanges(recolour);
    new ResizeObserver(([{ contentRect }]) => {
      this.width = contentRect.width;
      changed();
    }).observe(this.element);
  }

  /** @param {Layout} layout */
  arrange(layout) {
    this.layout = layout;
    this.element.style.height = `${layout.height}px`;
  }

  // Takes its size; false where there is no room.
  measure() {
    const scale = devicePixelRatio;
    const [width, height] = [this.width, this.layout.height].map((size) => Math.round(size * scale));
    const { isWhole, wideNames = NAMES } = this.layout;
    this.left = Math.round((this.isWide && this.width >= NARROW ? wideNames : NAMES) * scale);
    this.right = width - Math.round((isWhole && this.isWide ? NUMBERS + OUTCOME : NUMBERS) * scale);
    if (this.right - this.left < LEAST_WIDE) return false;
    const { element } = this;
    if (element.width !== width || element.height !== height) Object.assign(element, { width, height });
    this.scale = scale;
    this.colours ??= this.readColours();
    return true;
  }

  readColours() {
    const style = getComputedStyle(this.element);
    const colours = Object.fromEntries(SHEET_COLOURS.map((name) =>
      [name, style.getPropertyValue(`--sol-${name}`).trim()]));
    const [dark, lit] = [rgbOf(colours.track), rgbOf(colours.attention)];
    this.lights = Array.from({ length: LIGHTS + 1 }, (_, at) => mixed(dark, lit, at / LIGHTS));
    this.pixels = Uint32Array.from(this.lights, packed);
    this.well = packed(mixed(rgbOf(colours.panel), dark, 0.4));
    this.font = style.fontFamily;
    return colours;
  }

  clear(layers) {
    this.layers = layers;
    this.brush.clearRect(0, 0, this.element.width, this.element.height);
    this.brush.font = `${LABEL * this.scale}px ${this.font}`;
    this.gap = Math.max(1, Math.round(Math.min(3 * this.scale, (this.edge(1) - this.edge(0)) / 4)));
  }

  // Left edge of a layer's column, or of the one behind the last; between columns there is a gap.
  edge(layer) {
    return this.left + Math.round(layer * (this.right - this.left) / this.layers);
  }

  lane(name) {
    const [top, height] = this.layout.lanes[name];
    const at = Math.round(top * this.scale);
    return [at, Math.round((top + height) * this.scale) - at];
  }

  fill(colour, x, y, width, height) {
    this.brush.fillStyle = this.colours[colour] ?? colour;
    this.brush.fillRect(x, y, width, height);
  }

  write(text, x, y, align = "left", colour = "muted") {
    this.brush.fillStyle = this.colours[colour];
    this.brush.textAlign = /** @type {CanvasTextAlign} */ (align);
    this.brush.textBaseline = "middle";
    this.brush.fillText(text, x, y);
  }

  // As much of a name as there is room for on the left of the lanes.
  fitting(name) {
    const room = this.left - 10 * this.scale;
    const letters = Array.from(name);
    if (this.brush.measureText(name).width <= room) return name;
    while (letters.length && this.brush.measureText(`${letters.join("")}…`).width > room) letters.pop();
    return `${letters.join("")}…`;
  }
}
