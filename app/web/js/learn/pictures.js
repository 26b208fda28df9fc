// Parts of the lessons' pictures: a slider over levels, bars, a passage of tokens.

import { h, SITE } from "../shared/dom.js";
import { count, percent } from "../shared/format.js";
import { levelSlider } from "../shared/forms/form_parts.js";
import { Zoom } from "../shared/machine/field.js";
import { cellNames, FLOW, pagesText, readersOf, readsOf } from "../shared/machine/reads.js";
import { colourScale } from "../shared/tokens/token_stage.js";
import { quoted, tokenNodes } from "../shared/tokens/token_text.js";

export const learnPart = (title, ...rest) =>
  h("section", { class: "sol-learn-part" }, h("h3", {}, title), ...rest);

export const meter = (fraction, className = "") => h("span", { class: `sol-meter ${className}`,
  "aria-hidden": "true", "--v": Math.min(Math.max(fraction || 0, 0), 1) });

// A named bar with its value in words; `fraction` of the full length, in [0, 1].
export const barRow = (name, fraction, value) => h("div", { class: "sol-learn-bar" },
  h("span", {}, name), meter(fraction), h("span", { class: "sol-value" }, value));

export const pickedText = (text) => h("b", { class: "sol-learn-word", dir: "auto" }, tokenNodes(text));

// A passage whose tokens from `first` on can be coloured; with a page size, marks show where pages begin.
export class PassageView {
  constructor(texts, first, label, pageSize = Infinity) {
    this.first = first;
    const classOf = (at) => (at < first ? "sol-muted" : "sol-token sol-learn-token")
      + (at % pageSize === 0 ? " is-page" : "");
    this.tokens = texts.map((text, at) => h("span", { class: classOf(at) }, text));
    this.element = h("p", { class: "sol-learn-passage", role: "group", "aria-label": label,
      dir: "auto" }, this.tokens);
  }

  // For who sees the text; the keyboard has a slider.
  choosing(chosen) {
    this.element.classList.add("is-choosing");
    this.tokens.slice(this.first).forEach((token, place) =>
      token.addEventListener("click", () => chosen(place)));
  }

  mark(place) {
    this.tokens.forEach((token, at) => token.classList.toggle("is-chosen", at === this.first + place));
  }

  // values: one per coloured token; `top` and more is the strongest colour.
  paint(values, top, title) {
    values.forEach((value, at) => {
      const token = this.tokens[this.first + at];
      const fraction = Math.min(Math.max((value ?? 0) / top, 0), 1);
      token.dataset.bin = Math.round(fraction * (SITE.numBins - 1));
      token.title = title(at);
    });
  }
}

export const paintScale = (low, high) => colourScale({ low, high, show: String });

const PAGES_TOP = 16; // px, below the line that explains the colours
const PAGE_HEIGHT = 18; // px, at most
const MOST_TALL = 340; // px, of all pages

/** @returns {import("../shared/machine/sheet.js").Layout} */
function pagesLayout(pages) {
  const tall = Math.min(PAGE_HEIGHT * pages, MOST_TALL);
  return { height: PAGES_TOP + tall, pageHeight: PAGE_HEIGHT, lanes: { pages: [PAGES_TOP, tall] },
    wideNames: 260 };
}

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
    const names = cellNames(reads, (page) =>
      this.tokens.slice(page * this.pageSize, Math.min((page + 1) * this.pageSize, place)).join(""));
    const readers = readersOf(reads);
    const never = readers.filter((number) => number === 0).length;
    const ofLayers = count(reads.layers, "layer");
    this.draw({ reads, names },
      `The step to ${quoted(this.tokens[place])}: ${pagesText(reads)}`
        + (never ? `, ${never} in none.` : "."),
      names.map((name, cell) => `“${name}”: read in ${readers[cell]} of ${ofLayers}.`).join(" "));
  }
}

// How much of the MLP one step read. bytes: share of what a dense step reads of it.
export class MlpZoom extends Zoom {
  constructor() {
    super({ height: 62, lanes: { flow: [2, 22], input: [32, 12], inner: [50, 12] } });
  }

  show(layers, fractions, bytes) {
    const [input, inner] = fractions.map((kept) => percent(kept));
    this.draw({ layers, fractions, flow: FLOW.map((part) => (part === "mlp" ? bytes : 0)) },
      `In each of ${count(layers, "layer")} ${input} of the MLP's input channels and ${inner} of its inner `
        + `ones: ${percent(bytes)} of its bytes.`,
      "A bar as long as these bytes, and two bars in each layer.");
  }
}

// Chooses among the steps of a passage. losses: of each, whose largest is chosen at first; show(place)
export function stepSlider(tokens, first, losses, show) {
  const worst = losses.indexOf(Math.max(...losses));
  return levelSlider({ label: "Step", levels: losses.map((_, place) => place), at: worst, show,
    text: (place) => `${quoted(tokens[first + place])}, ${place + 1} of ${losses.length}` });
}
