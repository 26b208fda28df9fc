// The machine of a lesson: the picture of one decode step that Explore draws, zoomed to one axis.

import { count, percent } from "../shared/format.js";
import { FLOW, pagesText, readsOf } from "../shared/machine/reads.js";
import { Zoom } from "../shared/machine/field.js";
import { spokenText } from "../shared/tokens/token_text.js";
import { levelSlider } from "./pictures.js";

const NARROW = 520; // px of the sheet: then names are short
const PAGES_TOP = 16; // px, below the line that explains the colours
const PAGE_HEIGHT = 18; // px, at most
const MOST_TALL = 340; // px, of all pages

/** @type {(sheet: { width: number }) => [number, number]} */
const sides = () => [68, 58];
/** @type {(sheet: { width: number }) => [number, number]} */
const namedSides = ({ width }) => [width < NARROW ? 108 : 250, 58];

/** @returns {import("../shared/machine/sheet.js").Layout} */
function pagesLayout(pages) {
  const tall = Math.min(PAGE_HEIGHT * pages, MOST_TALL);
  return { height: PAGES_TOP + tall, pageHeight: PAGE_HEIGHT, lanes: { pages: [PAGES_TOP, tall] }, sides: namedSides };
}

// Which pages of the cache one step read, layer by layer, each page with its own words.
export class PagesZoom extends Zoom {
  constructor() {
    super(pagesLayout(1));
  }

  // tokens: texts of the whole passage.
  begin(tokens, pageSize) {
    this.tokens = tokens;
    this.pageSize = pageSize;
    this.field.sheet.arrange(pagesLayout(Math.ceil(tokens.length / pageSize)));
  }

  // record: PageReads of sol_core/events.py; place: of the token after the step.
  show(record, place) {
    const reads = readsOf({ page_reads: record });
    if (!reads) return;
    const { layers, cells, levels, pages } = reads;
    const width = Math.ceil(pages / cells) * this.pageSize; // tokens of a cell
    const names = Array.from({ length: cells }, (_, cell) =>
      this.tokens.slice(cell * width, Math.min((cell + 1) * width, place)).join("").trim());
    const readers = names.map((_, cell) =>
      Array.from({ length: layers }, (__, layer) => levels[layer * cells + cell]).filter((level) => level > 0).length);
    const never = readers.filter((number) => number === 0).length;
    this.draw({ reads, names, numbers: readers.map((number) => `${number} of ${layers}`) },
      `The step to “${spokenText(this.tokens[place]).trim()}”: ${pagesText(reads)}${never ? `, ${never} in none` : ""}.`,
      names.map((name, cell) => `“${name}”: read in ${readers[cell]} of ${count(layers, "layer")}.`).join(" "));
  }
}

// How much of the MLP one step read: input and inner channels of every layer, and bytes as a flow.
export class MlpZoom extends Zoom {
  constructor() {
    super({ height: 62, lanes: { flow: [2, 22], input: [32, 12], inner: [50, 12] }, pageHeight: 0, sides });
  }

  // bytes: share of what a dense step reads of the MLP.
  show(layers, shares, bytes) {
    const [input, inner] = shares.map((share) => percent(share));
    this.draw({ layers, shares, flow: FLOW.map((part) => (part === "mlp" ? bytes : 0)) },
      `In each of ${count(layers, "layer")} ${input} of the MLP's input channels and ${inner} of its inner ones: ${percent(bytes)} of its bytes.`,
      "A flow as thick as these bytes, and two bars in each layer.");
  }
}

// The bits that the activations of every layer got.
export class BitsZoom extends Zoom {
  constructor() {
    super({ height: 18, lanes: { bits: [1, 16] }, pageHeight: 0, sides });
  }

  show(bits) {
    this.draw({ bits }, bits < 16 ? `${bits} of 16 bits: each number becomes one of ${(2 ** bits - 1).toLocaleString("en")}.`
      : "All 16 bits: no number is rounded.", "A gauge of 16 parts.");
  }
}

// Chooses among the steps of a passage. losses: of each, whose largest is chosen at first; show(place)
export function stepSlider(tokens, first, losses, show) {
  const worst = losses.indexOf(Math.max(...losses));
  return levelSlider({ label: "Step", levels: losses.map((_, place) => place), at: worst, show,
    text: (place) => `“${spokenText(tokens[first + place]).trim()}”, ${place + 1} of ${losses.length}` });
}
