// The sentence that a comparison begins with. It says nothing that was not measured.

import { h } from "./dom.js";
import { count, isNumber, mean, percent, sentence } from "./format.js";

export const ENOUGH_TOKENS = 200;
export const ENOUGH_QUESTIONS = 50;
const MATCHED = 0.0105; // share of the full model's bytes: one point, and what rounding adds
const BLOCK = 10; // neighbouring tokens depend on each other: intervals are over blocks of as many
const T_VALUE = 2.09; // of Student's distribution, 95 %, twenty blocks

/** A difference with its interval: above 0, the first of both is better.
 * @typedef {[number | null, number | null, number | null]} Gain */
/** name, other: what is compared; gains: one for each budget; text(gain): without the unit; samples: how many
 * of the word were scored, of `enough` that are needed; spent: for each gain both shares of the dense bytes.
 * @typedef {{ name: string, other: string, gains: Gain[], text: (gain: number) => string, unit: string,
 *   samples: number, word: string, enough: number, spent?: (number | null)[][] }} Compared */
/** @typedef {{ kind: "good" | "bad" | "open", head: string, rest: string }} Verdict */

/** @param {Gain} gain */
const signOf = ([, low, high]) => ((low ?? 0) > 0 ? 1 : (high ?? 0) < 0 ? -1 : 0);
const isKnown = (gain) => gain.every(isNumber);

// The winner spent more, by over a point.
function isBought(gain, spent) {
  const [own, other] = spent ?? [];
  if (!isNumber(own) || !isNumber(other)) return false;
  return Math.abs(own - other) > MATCHED && (signOf(gain) === 0 || (own > other) === (signOf(gain) > 0));
}

function spendWords(spent) {
  if (!spent?.every((both) => both.every(isNumber))) return "";
  if (spent.length === 1) return ` Compute: ${percent(spent[0][0], 1)} against ${percent(spent[0][1], 1)}.`;
  const largest = Math.max(...spent.map(([own, other]) => Math.abs(own - other)));
  return ` Compute matched to ${(100 * largest).toFixed(1)} points.`;
}

// "spends 6.0 points more than static (80.0 % against 74.0 % compute)"; of several budgets the largest gap.
function unequalWords(other, spent) {
  const gaps = spent.map(([own, its]) => own - its);
  const at = gaps.reduce((most, gap, place) => (Math.abs(gap) > Math.abs(gaps[most]) ? place : most), 0);
  const [own, its] = spent[at];
  const points = `${spent.length > 1 ? "up to " : ""}${(100 * Math.abs(gaps[at])).toFixed(1)} points`;
  return `spends ${points} ${gaps[at] > 0 ? "more" : "less"} than ${other} (${percent(own, 1)} against `
    + `${percent(its, 1)} compute)`;
}

/** @param {Compared} compared @returns {Verdict | null} null where nothing was measured */
export function verdictOf({ name, other, gains, text, unit, samples, word: counted, enough, spent }) {
  if (!gains.length) return null;
  if (samples < enough) {
    return { kind: "open", head: "Too few to tell",
      rest: `: ${count(samples, counted)}. A verdict needs ${enough}.` };
  }
  if (gains.some((gain, at) => isBought(gain, spent?.[at]))) {
    return { kind: "open", head: "No comparison at equal bytes",
      rest: `: ${name} ${unequalWords(other, spent)}.` };
  }
  if (!gains.every(isKnown)) return null;
  const isOne = gains.length === 1;
  const [better, worse] = [1, -1].map((sign) => gains.filter((gain) => signOf(gain) === sign).length);
  const kind = better && !worse ? "good" : worse && !better ? "bad" : "open";
  const words = [[better, "better"], [worse, "worse"], [gains.length - better - worse, "no difference shown"]]
    .filter(([budgets]) => budgets).map(([budgets, word]) => (isOne ? word : `${word} at ${budgets}`));
  const head = sentence(words.join(", ")) + (isOne ? "" : ` of ${gains.length} budgets`);
  const low = Math.min(...gains.map((gain) => gain[1] ?? 0));
  const high = Math.max(...gains.map((gain) => gain[2] ?? 0));
  const gained = `: ${name} against ${other}, ${text(mean(gains.map((gain) => gain[0])))} ${unit}`;
  const range = isOne ? ` (95 % interval ${text(low)} to ${text(high)}).`
    : ` on average (95 % intervals between ${text(low)} and ${text(high)}).`;
  return { kind, head, rest: gained + range + spendWords(spent) };
}

// Mean and squared error of values that follow each other; the error by whole blocks.
function blocksOf(values) {
  const blocks = Array.from({ length: Math.floor(values.length / BLOCK) }, (_, at) =>
    mean(values.slice(at * BLOCK, (at + 1) * BLOCK)));
  const middle = mean(blocks);
  const squares = blocks.reduce((sum, block) => sum + (block - middle) ** 2, 0);
  return { middle: mean(values), error: squares / (blocks.length * (blocks.length - 1)) };
}

/** Of losses on different texts. @param {number[]} own @param {number[]} other @returns {Gain} */
export function apartGain(own, other) {
  const [first, second] = [blocksOf(own), blocksOf(other)];
  const middle = second.middle - first.middle;
  const half = T_VALUE * Math.sqrt(first.error + second.error);
  return [middle, middle - half, middle + half];
}

/** Of paired losses. @param {number[]} own @param {number[]} other */
export const pairedGain = (own, other) =>
  apartGain(own.map((loss, at) => loss - other[at]), own.map(() => 0));

export class VerdictLine {
  element = h("div", { class: "sol-findings" });

  /** @param {(Verdict | null)[]} verdicts */
  draw(verdicts) {
    this.element.replaceChildren(...verdicts.filter((one) => one !== null).map(({ kind, head, rest }) =>
      h("p", { class: "sol-finding", "data-verdict": kind }, h("b", {}, head), rest)));
  }
}
