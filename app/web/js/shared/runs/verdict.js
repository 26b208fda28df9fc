// A run's tally against the full model, the verdict on it, and where the two part; and the verdicts that
// Python makes, drawn.

import { h, SITE } from "../dom.js";
import { AXES, count, isTie, mean, probability, probabilityOf } from "../format.js";
import { quoted, withoutEnd } from "../tokens/token_text.js";
import { choiceKept, denseSide, densesChoice } from "../tokens/token_view.js";

export function tallyOf(rows) {
  const sum = (of) => rows.reduce((total, row) => total + of(row), 0);
  const share = (unit) => sum((row) => row.cost[unit]) / sum((row) => row.dense_cost[unit]);
  const kept = rows.map(choiceKept).filter((isKept) => isKept !== null);
  return { ms: sum((row) => row.step_ms), flops: share("flops"), bytes: share("bytes_read"),
    spend: AXES.map((axis) => mean(rows.map(axis.of))),
    compared: kept.length, // steps where dense's choice is known
    others: kept.filter((isKept) => !isKept).length, // and where it is another
    parted: kept.indexOf(false), // the first of these
    kl: mean(rows.map((row) => row.kl_to_dense)),
    klStatic: mean(rows.map((row) => row.side.find((one) => one.name === "static")?.kl_to_dense)) };
}

// Verdicts in the words of the dial's zones.
export const SAME = "Same as the full model";
export const ZONES = { [SAME]: "same text", "Small changes": "small changes",
  "Another answer": "small changes", Broken: "will break" };

// answer_verdict of sol_core/reporting/verdict.py, also while a run goes on.
export function outcomeOf({ compared, others, kl, parted }, isDense) {
  if (isDense) return { kind: "", basis: "This is the full model: every step reads everything." };
  if (!compared) return { kind: "", basis: "Not checked against the full model." };
  const whole = count(compared, "token");
  if (!others) return { kind: SAME, basis: ` All ${whole} match.` };
  const isFar = (kl ?? 0) > SITE.broken.kl;
  const hasMany = others > SITE.broken.others * compared;
  const why = isFar && !hasMany ? ` Mean KL is above ${SITE.broken.kl} nats.` : "";
  return { kind: isFar || hasMany ? "Broken" : 2 * parted < compared ? "Another answer" : "Small changes",
    basis: ` The full model disagrees with ${others.toLocaleString("en")} of ${whole} (dotted).${why}` };
}

export function partingWords(rows) {
  const at = rows.findIndex(densesChoice);
  const { text = "", probability: chance = 0 } = densesChoice(rows[at]) ?? {};
  if (!withoutEnd([{ text }]).length) return ` Both agree until token ${at + 1}, where it would have ended.`;
  const isSpace = text.trim() === rows[at].text.trim(); // then it shows, as on a token's card
  const shown = (one) => (isSpace ? `“${one.replaceAll(" ", "·")}”` : quoted(one));
  const [its, own] = [text, rows[at].text].map(shown);
  const found = probabilityOf(denseSide(rows[at])?.surprisal ?? Infinity);
  const tie = isTie(chance, found) ? ", in a near tie" : "";
  return ` It parts ways at token ${at + 1}${tie}, preferring ${its} (${probability(chance)}) to ${own} `
    + `(${probability(found)}).`;
}

// The sentences that a comparison begins with, as Python says them (sol_core/reporting/verdict.py).
export class VerdictLine {
  element = h("div", { class: "sol-findings" });

  /** @param {({ kind: string, head: string, rest: string } | null | undefined)[]} verdicts */
  draw(verdicts) {
    this.element.replaceChildren(...verdicts.flatMap((one) => one ?? []).map(({ kind, head, rest }) =>
      h("p", { class: "sol-finding", "data-verdict": kind }, h("b", {}, head), rest)));
  }
}
