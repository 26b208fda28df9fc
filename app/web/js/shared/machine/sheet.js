// The canvas of the machine: its size in pixels of the screen, its colours, where its lanes are.

import { h, whenThemeChanges } from "../dom.js";

const SHEET_HEIGHT = 154; // px
/** Top and height of each lane: px. @type {Record<string, [number, number]>} */
export const LANES = { pages: [16, 72], flow: [94, 16], input: [118, 6], inner: [130, 6], bits: [143, 7] };
/** Widths beside the lanes: lines from the policy's choices, names, numbers, the outcome: px. */
export const BESIDE = { choices: 26, names: 68, numbers: 58, outcome: 132 };
const LABEL = 11; // px
const LEAST_WIDE = 60; // pixels of the lanes
const LIGHTS = 63; // steps from dark to lit
const SHEET_COLOURS = ["attention", "channels", "bits", "edge", "track", "panel", "sunken", "muted"];

const rgbOf = (hex) => [1, 3, 5].map((at) => parseInt(hex.slice(at, at + 2), 16));
const mixed = (from, to, share) => from.map((one, at) => Math.round(one + share * (to[at] - one)));
const packed = ([red, green, blue]) => ((255 << 24) | (blue << 16) | (green << 8) | red) >>> 0;

export class Sheet {
  width = 0; // px
  scale = 1; // pixels a px
  layers = 1; // columns
  isWide = true; // choice and outcome stand on its left and on its right end, not above and below

  // changed(): it has to be drawn again.
  constructor(changed) {
    this.element = h("canvas", { class: "sol-machine-field", height: SHEET_HEIGHT });
    this.brush = this.element.getContext("2d");
    const recolour = () => {
      this.colours = null;
      changed();
    };
    whenThemeChanges(recolour);
    matchMedia("(prefers-color-scheme: dark)").addEventListener("change", recolour);
    new ResizeObserver(([{ contentRect }]) => {
      this.width = contentRect.width;
      changed();
    }).observe(this.element);
  }

  // "none": there is no room; "new": nothing is drawn on it any more; else "same".
  measure() {
    const scale = devicePixelRatio;
    const width = Math.round(this.width * scale);
    this.left = Math.round((BESIDE.names + (this.isWide ? BESIDE.choices : 0)) * scale);
    this.right = width - Math.round((BESIDE.numbers + (this.isWide ? BESIDE.outcome : 0)) * scale);
    if (this.right - this.left < LEAST_WIDE) return "none";
    const isNew = this.element.width !== width || this.scale !== scale;
    if (isNew) Object.assign(this.element, { width, height: Math.round(SHEET_HEIGHT * scale) });
    this.scale = scale;
    this.colours ??= this.readColours();
    return isNew ? "new" : "same";
  }

  readColours() {
    const style = getComputedStyle(this.element);
    const colours = Object.fromEntries(SHEET_COLOURS.map((name) => [name, style.getPropertyValue(`--sol-${name}`).trim()]));
    const [dark, lit] = [rgbOf(colours.track), rgbOf(colours.attention)];
    this.lights = Array.from({ length: LIGHTS + 1 }, (_, at) => mixed(dark, lit, at / LIGHTS));
    this.pixels = Uint32Array.from(this.lights, packed);
    this.well = packed(mixed(rgbOf(colours.panel), dark, 0.4));
    this.font = style.fontFamily;
    return colours;
  }

  // Number of the colour for a page that is this far from dark, 0, to lit, 1.
  light(shade) {
    return Math.round(shade * LIGHTS);
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

  // Top and height of a lane in pixels.
  lane(name) {
    const [top, height] = LANES[name];
    const at = Math.round(top * this.scale);
    return [at, Math.round((top + height) * this.scale) - at];
  }

  fill(colour, x, y, width, height) {
    this.brush.fillStyle = this.colours[colour] ?? colour;
    this.brush.fillRect(x, y, width, height);
  }

  write(text, x, y, align = "left") {
    this.brush.fillStyle = this.colours.muted;
    this.brush.textAlign = /** @type {CanvasTextAlign} */ (align);
    this.brush.textBaseline = "middle";
    this.brush.fillText(text, x, y);
  }

  // A tip to the right, its base at x.
  tip(colour, x, middle, half, length) {
    this.brush.fillStyle = this.colours[colour];
    this.brush.beginPath();
    this.brush.moveTo(x, middle - half);
    this.brush.lineTo(x, middle + half);
    this.brush.lineTo(x + length, middle);
    this.brush.fill();
  }
}
