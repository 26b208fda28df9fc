// The reads of a step, from its token's record: pages layer by layer, channels, bytes by part.

import { bitsText, count, isNumber, mean, percent, quantity } from "../format.js";
import { spokenText } from "../tokens/token_text.js";

const MOST_CELLS = 64; // of a layer, as sol_core/generation/sequence.py packs them
const MOST_CHARACTERS = 1100; // of a record: Python writes 1,024 at most

/** @typedef {{ layers: number, cells: number, pages: number, share: number, levels: Uint8Array }} Reads */

// levels: layer after layer, 0 none to 3 all; null where they were not recorded or cannot be read.
/** @param {Pick<Token, "page_reads">} row @returns {Reads | null} */
export function readsOf(row) {
  if (!row.page_reads) return null;
  const { pages, cells, levels: packed, share } = row.page_reads;
  if (!(cells >= 1 && cells <= MOST_CELLS && pages >= cells) || packed.length > MOST_CHARACTERS) return null;
  const levels = unpacked(packed);
  let layers = Math.floor(levels.length / cells);
  // Every layer reads a page: one that reads none is what fills the last byte up.
  const isEmpty = (layer) => !levels.subarray(layer * cells, (layer + 1) * cells).some(Boolean);
  while (layers > 0 && isEmpty(layers - 1)) layers -= 1;
  return layers ? { layers, cells, pages, share, levels: levels.subarray(0, layers * cells) } : null;
}

// Two bits a level, the first in a byte's lowest; none for what is not base64.
function unpacked(packed) {
  try {
    return Uint8Array.from(Array.from(atob(packed), (byte) => byte.charCodeAt(0))
      .flatMap((byte) => [byte & 3, (byte >> 2) & 3, (byte >> 4) & 3, byte >> 6]));
  } catch {
    return new Uint8Array(0);
  }
}

const DIGITS = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
const VALUES = new Map(Array.from(DIGITS, (digit, value) => [digit, value / 63]));

// Numbers from 0 to 1, each a base64 digit.
/** @param {string} digits */
export const numbersOf = (digits) => Array.from(digits, (digit) => VALUES.get(digit) ?? 0);

// Fraction of layers and KV heads that read each page; null where that was not recorded.
/** @param {Pick<Token, "page_reads">} row @returns {((page: number) => number) | null} */
export function fractionsOf(row) {
  const reads = row.page_reads;
  if (!reads || (!reads.by_page && reads.share < 1)) return null;
  return (page) => (page >= reads.pages ? 0 : reads.by_page ? VALUES.get(reads.by_page[page]) ?? 0 : 1);
}

// Fractions of the MLP's input and inner channels: Mechanisms.mlp_fractions of sol_core/actions/grid.py.
/** @returns {[number, number]} */
export function mlpFractions(grid, ratio) {
  const { mlp_pruning: pruning = "input", mlp_split: knots = [] } = grid ?? {};
  if (ratio >= 1) return [1, 1];
  if (pruning !== "both" || knots.length < 2) return [ratio, 1];
  const found = knots.findIndex(([x]) => x >= ratio);
  const right = Math.min(Math.max(found < 0 ? knots.length : found, 1), knots.length - 1);
  const [[x0, y0], [x1, y1]] = [knots[right - 1], knots[right]];
  const curve = y0 + (y1 - y0) * (ratio - x0) / (x1 - x0);
  // The inner fraction that is left must be above 0 and at most 1.
  const [lowest, highest] = [(3 * ratio - 1) / 2, (3 * ratio - 0.02) / 2];
  const input = Math.min(Math.max(curve, lowest, 0.01), highest, 1);
  return [input, 3 * ratio - 2 * input];
}

// The same, as lists of a fraction per layer where an action has its ratios by layer.
/** @param {Action} action @returns {[number | number[], number | number[]]} */
export function channelFractions(grid, action) {
  const pairs = action.channels_by_layer?.map((ratio) => mlpFractions(grid, ratio));
  if (!pairs) return mlpFractions(grid, action.channel_keep_ratio);
  return [pairs.map(([input]) => input), pairs.map(([, inner]) => inner)];
}

export const meanFraction = (kept) => (Array.isArray(kept) ? mean(kept) : kept);

export const FLOW = ["attention", "mlp", "head", "policy"];

// Bytes of each part of the step as shares of what the whole step reads densely, in the order of FLOW.
export const flowOf = ({ cost, dense_cost: dense }) =>
  FLOW.map((part) => cost[`${part}_bytes`] / dense.bytes_read)
    .map((share) => (isNumber(share) ? share : 0));

// Of one layer: pages that a KV head reads, as many in every layer or their mean.
export const pagesRead = ({ share, pages }) => Math.max(1, Math.round(share * pages));

export const pagesText = (reads) =>
  `${pagesRead(reads)} of ${count(reads.pages, "page")} read by each KV head`;

export const bytesText = ({ cost, dense_cost: dense }) =>
  [quantity(cost.bytes_read, "B"), `of ${quantity(dense.bytes_read, "B")} read`];

const MOST_NAME = 80; // characters: more than fit beside a drawing

/** @param {Reads} reads @param {(page: number) => string} textOf */
export function cellNames({ cells, pages }, textOf) {
  const each = Math.ceil(pages / cells);
  return Array.from({ length: cells }, (_, cell) => Array.from({ length: each }, (__, at) =>
    textOf(cell * each + at)).join("").slice(0, MOST_NAME).replaceAll(/\s+/g, " ").trim());
}

/** Of each cell of pages, how many layers read it. @param {Reads} reads */
export function readersOf({ cells, levels }) {
  const readers = Array(cells).fill(0);
  levels.forEach((level, at) => { readers[at % cells] += Number(level > 0); });
  return readers;
}

export function spokenStep(row, reads, [input, inner], title) {
  const pages = reads ? `${pagesText(reads)}, ${count(reads.layers, "layer")}`
    : "which pages were read was not recorded";
  return `One decode step. ${title}. Token ${row.index + 1}: ${spokenText(row.text)}. KV cache: ${pages}. `
    + `MLP: ${percent(row.cost.mlp_bytes / row.dense_cost.mlp_bytes)} of its bytes, `
    + `${percent(meanFraction(input))} of the input channels, `
    + `${percent(meanFraction(inner))} of the inner ones${Array.isArray(input) ? ", by layer" : ""}. `
    + `${bitsText(row.action.bit_width)} bits of 16. ${bytesText(row).join(" ")}.`;
}
