// The two runs in numbers. Each line says what it is and how it was got: measured while the run
// went on, computed from what it spent, or scored now by the dense model.

import { h, headRow, setText } from "../shared/dom.js";
import {
  AXES, count, duration, isNumber, mean, MISSING, nats, percent, scheduleOf, signed,
} from "../shared/format.js";
import { tablePanel } from "../shared/page_parts.js";

export const SIDES = ["a", "b"];
export const sideName = (side) => side.toUpperCase();

// less: whether less is better; null where neither is.
/** @type {{name: string, how: (sides: any[]) => string, of: (side: any) => number | null,
 *   text: (value: number) => string, less: boolean | null, axis?: Axis, isTime?: boolean}[]} */
const PAIR_LINES = [
  { name: "Tokens", how: () => "generated", of: (side) => side.rows.length,
    text: (value) => value.toLocaleString("en"), less: null },
  { name: "Time per token", how: (sides) => `measured; ${rowsText(sides)}`, isTime: true,
    of: (side) => side.tally.ms / side.tally.rows, text: duration, less: true },
  { name: "Time for all tokens", how: () => "measured, prompt not included", isTime: true,
    of: (side) => side.tally.ms, text: duration, less: null },
  ...AXES.map((axis, at) => ({ name: axis.name, how: () => "spent, mean of the steps", axis,
    of: (side) => side.tally.mean(at), text: axis.show, less: null })),
  { name: "Bytes saved", how: () => "computed, against dense", of: (side) => 1 - side.tally.bytes / side.tally.denseBytes,
    text: (value) => percent(value, 1), less: null },
  { name: "Surprisal, own schedule", how: () => "mean over its tokens, as it was generated; nats",
    of: (side) => mean(side.rows.map((row) => row.surprisal)), text: nats, less: true },
  { name: "NLL under the dense model", how: () => "of the finished text, one dense pass; nats per token",
    of: (side) => mean(side.nll), text: nats, less: true },
  { name: "KL to dense", how: () => "mean over the steps, by the shadow row; nats", less: true,
    of: (side) => (isDense(side) ? 0 : mean(side.rows.map((row) => row.kl_to_dense))), text: nats },
];

const isDense = (side) => scheduleOf(side.run).kind === "dense";
const rowsOf = (side) => 1 + (side.rows[0]?.side.length ?? 0);

function rowsText(sides) {
  const [one, other] = sides.map(rowsOf);
  if (one === other) return one === 1 ? "no shadow rows" : `each step carried ${one} rows`;
  return `not alike: A's steps carried ${count(one, "row")}, B's ${other}`;
}

function differenceText(line, one, other) {
  const gap = other - one;
  if (line.axis) {
    return line.axis.unit === "bit" ? signed(gap, 2) : `${signed(100 * gap, 1)} points`;
  }
  if (line.isTime) return `${signed(100 * (other / one - 1), 0)} %`;
  if (line.text === nats) return signed(gap);
  return line.name === "Tokens" ? signed(gap, 0) : `${signed(100 * gap, 1)} points`;
}

export class PairTable {
  constructor() {
    this.body = h("tbody", {});
    this.note = h("span", {});
    this.element = tablePanel(h("table", { class: "sol-table sol-pair-table" },
      headRow(["Measure", "A", "B", "B against A"]), this.body),
    { title: "In numbers", label: "In numbers", name: "A and B in numbers", note: this.note });
  }

  // sides: two of {run, rows, tally, nll}; problems: sentences about what could not be scored.
  render(sides, problems) {
    this.body.replaceChildren(...PAIR_LINES.map((line) => {
      const values = sides.map((side) => (side.rows.length ? line.of(side) : null));
      const both = values.every(isNumber);
      const gap = both ? values[1] - values[0] : 0;
      const alike = !line.isTime || rowsOf(sides[0]) === rowsOf(sides[1]);
      const text = both ? differenceText(line, ...values) : MISSING;
      // Without a sign it rounds to nothing.
      const verdict = line.less === null || !alike || !/^[+−]/.test(text) ? "open"
        : (gap < 0) === line.less ? "good" : "bad";
      return h("tr", {},
        h("th", { scope: "row" }, line.axis && h("i", { class: "sol-axis-dot", "data-axis": line.axis.key }),
          line.name, h("small", {}, line.how(sides))),
        values.map((value) => h("td", {}, isNumber(value) ? line.text(value) : MISSING)),
        h("td", { class: "sol-gain", "data-verdict": verdict }, text));
    }));
    setText(this.note, ["Two runs of one seed, measured one after the other on this machine; "
      + "a difference in text can outweigh one in quality. A dense NLL says how likely the dense "
      + "model finds a text, not how good it is: repetition is likely too.", ...problems].join(" "));
  }
}
