// Strips of History: one coloured cell per token, or per stretch of a longer run, for the bytes that its step read
// as a share of dense; in the colours of Explore's "Cost".

import { h } from "../shared/dom.js";
import { count, percentTight } from "../shared/format.js";
import { colourScale, costSpan } from "../shared/tokens/legend.js";
import { BIN, binOf } from "../shared/tokens/tokens.js";

const NARROWEST = 0.1; // of the axis: a list of dense runs has dense's colour too

/** @typedef {{ words: string, share: number | null, cells: number[] }} Preview */

// In words, for a title and for screen readers.
/** @param {Preview} preview @param {number} tokens @param {string} whose */
const stripLabel = (preview, tokens, whose) =>
  `${whose && `${whose}: `}${preview.share} % of dense's bytes, ${count(tokens, "token")}`;

// Of all rows of a list: their colours span from the least that any cell read to dense, so that they compare.
export class Strips {
  constructor() {
    /** @type {{ element: HTMLElement, cells: number[] }[]} */
    this.strips = [];
    this.axis = { of: (cell) => cell / 100, low: 0, high: 1, show: percentTight };
    this.scale = h("span", {});
    this.legend = h("p", { class: "sol-strip-legend sol-muted", hidden: true },
      "Strips: bytes read per token, as a share of dense ", this.scale);
  }

  clear() {
    this.strips = [];
  }

  // The strip of a run, null where what it read is not known. whose: the schedule's name, of a run of several.
  /** @param {Preview | null} preview @param {number} tokens @param {string} whose */
  add(preview, tokens, whose) {
    if (!preview?.cells.length) return null;
    const { cells } = preview;
    const label = stripLabel(preview, tokens, whose);
    const strip = h("span", { class: "sol-strip", role: "img", "--cells": cells.length,
      "aria-label": label, title: label }, cells.map(() => h("i", {})));
    this.strips.push({ element: strip, cells });
    return h("div", { class: "sol-strip-line" }, strip,
      h("span", { class: "sol-strip-share", "aria-hidden": "true" }, `${preview.share} %${whose && ` · ${whose}`}`));
  }

  // Colours all strips that have been added, in one span.
  paint() {
    const least = Math.min(1 - NARROWEST, ...this.strips.map(({ cells }) => Math.min(...cells) / 100));
    const span = costSpan(least);
    for (const { element, cells } of this.strips) {
      cells.forEach((cell, at) => element.children[at].setAttribute(BIN, `${binOf(this.axis, span, cell)}`));
    }
    this.scale.replaceChildren(colourScale({ ...this.axis, low: span.low }, span));
    this.legend.hidden = this.strips.length === 0;
  }
}
