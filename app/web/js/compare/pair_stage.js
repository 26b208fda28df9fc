// Two runs of one prompt side by side: both texts, aligned once both have ended, and both in numbers.

import { h, headRow, setText, show } from "../shared/dom.js";
import {
  AXES, count, duration, formNumbers, isNumber, leftOutText, mean, MECHANISMS, mechanismsOf, MISSING, nats,
  percent, scheduleName, scheduleOf, signed, spendText,
} from "../shared/format.js";
import { leadOf, tablePanel } from "../shared/page_parts.js";
import { outcomeOf, tallyOf, VerdictLine } from "../shared/runs/verdict.js";
import { setPill, STATES } from "../shared/runs/status_line.js";
import { TokenStage } from "../shared/tokens/token_stage.js";
import { colourAxes, shareOfBytes, stretched } from "../shared/tokens/token_view.js";

export const SIDES = ["a", "b"];
export const sideName = (side) => side.toUpperCase();

const points = (gap) => `${signed(100 * gap, 1)} points`;

// how: measured, computed or scored now by the full model; gap: from A to B in words; less: whether less is
// better, null: neither.
/** @type {{name: string, how: string, of: (side: any) => number | null, text: (value: number) => string,
 *   gap: (gap: number) => string, less: boolean | null, axis?: Axis}[]} */
const PAIR_LINES = [
  { name: "Tokens", how: "generated", of: (side) => side.rows.length,
    text: (value) => value.toLocaleString("en"), gap: (gap) => signed(gap, 0), less: null },
  { name: "Time per token", how: "measured at different times: not compared",
    of: (side) => side.tally.ms / side.rows.length, text: duration, gap: () => MISSING, less: null },
  ...AXES.map((axis, at) => ({ name: axis.name, how: "spent, mean of the steps", axis,
    of: (side) => side.tally.spend[at], text: axis.show, less: null,
    gap: axis.unit === "bit" ? (gap) => signed(gap, 2) : points })),
  { name: "Compute", how: "bytes read, of the full model's", of: (side) => side.tally.bytes,
    text: (value) => percent(value, 1), gap: points, less: null },
  { name: "NLL under the full model", how: "of the finished text, in one pass; nats per token",
    of: (side) => mean(side.nll), text: nats, gap: signed, less: true },
  { name: "KL to the full model", how: "mean over the steps, nats", less: true,
    of: (side) => (isDense(side) ? 0 : mean(side.rows.map((row) => row.kl_to_dense))), text: nats,
    gap: signed },
];

const isDense = (side) => scheduleOf(side.run).kind === "dense";

const outcomeOfSide = (side) => outcomeOf(side.tally, isDense(side));

function pairRow(line, sides, isTold) {
  const values = sides.map((side) => (side.rows.length ? line.of(side) : null));
  const text = values.every(isNumber) ? line.gap(values[1] - values[0]) : MISSING;
  const isLess = text.startsWith("−");
  const better = sides[isLess === line.less ? 1 : 0];
  // Without a sign it rounds to nothing; of two texts that are no answer none is better.
  const isOpen = !isTold || line.less === null || !/^[+−]/.test(text)
    || outcomeOfSide(better).kind === "Broken";
  const verdict = isOpen ? "open" : better === sides[1] ? "good" : "bad";
  return h("tr", {},
    h("th", { scope: "row" }, line.axis && h("i", { class: "sol-axis-dot", "data-axis": line.axis.key }),
      line.name, h("small", {}, line.how)),
    values.map((value) => h("td", {}, isNumber(value) ? line.text(value) : MISSING)),
    h("td", { class: "sol-gain", "data-verdict": verdict }, text));
}

const PILLS = { "Same as the full model": "good", Broken: "bad" };
const TABLE_WORDS = "Both runs use the same seed. NLL says how likely the full model finds a text, not how "
  + "good it is.";

export class PairStage extends TokenStage {
  // hint: what the foot says before both are compared; tail(at): what a side's head ends with.
  constructor(root, hint, tail = (at) => null, on = {}) {
    super(root, colourAxes(), on);
    this.hint = hint;
    this.place = h("div", { class: "sol-pair-scroll" });
    this.sides = SIDES.map((side, at) => this.buildSide(side, at, tail(at)));
    this.place.append(h("div", { class: "sol-pair-grid sol-lines" }, this.sides.map((one) => one.head),
      this.sides.map((one) => one.view.list)));
    this.lines = h("tbody", {});
    this.note = h("span", {});
    this.table = tablePanel(h("table", { class: "sol-table sol-pair-table" },
      headRow(["Measure", "A", "B", "B against A"]), this.lines),
    { title: "In numbers", label: "In numbers", name: "A and B in numbers", note: this.note });
    this.parted = h("p", { class: "sol-pair-parted", role: "status" }, hint);
    this.lead = h("div", { class: "sol-lead" });
    this.verdict = new VerdictLine();
  }

  /** @returns {{ view: import("../shared/tokens/token_view.js").TokenView, rows: Token[], tally: any,
   *   run: Run | null, nll: number[] | null, state: HTMLElement,
   *   detail: HTMLElement, head: HTMLElement }} */
  buildSide(side, at, tail) {
    const view = this.addColumn(at, `Tokens of ${sideName(side)}`);
    view.element = this.place; // both lists scroll in one place
    const state = h("span", { class: "sol-state", "data-kind": "idle" }, "Nothing yet");
    const detail = h("span", { class: "sol-detail" });
    const head = h("header", { class: "sol-pair-head", "data-side": side },
      h("b", { class: "sol-side-letter" }, sideName(side)), state, detail, tail);
    return { view, get rows() { return view.rows; }, get tally() { return tallyOf(view.rows); }, run: null,
      nll: null, state, detail, head };
  }

  build(tools = []) {
    return h("section", { class: "sol-panel sol-pair", "aria-label": "Both texts" },
      this.verdict.element, this.legend.element, this.lead, this.place,
      h("footer", { class: "sol-token-foot" }, this.parted, tools));
  }

  clear() {
    this.card.hide();
    this.partners = null;
    this.lead.replaceChildren();
    this.sides.forEach((one, at) => {
      Object.assign(one, { run: null, nll: null });
      one.view.clear();
      one.view.startBlock(blockAttributes(0, at, true));
      setPill(one.state, "Nothing yet", "idle");
      setText(one.detail, "");
    });
    show(this.table, false);
    this.verdict.draw([]);
    setText(this.parted, this.hint);
  }

  begin(at, run) {
    const side = this.sides[at];
    side.run = run;
    this.describe(side);
    if (at > 0) return;
    this.lead.replaceChildren(...leadOf(run.config.chat ? "You asked" : "Prompt", run.prompt));
  }

  describe({ run, rows, detail }) {
    const { kind, asked, share } = scheduleOf(run);
    const spend = share ? `${percent(share)} compute` : spendText(formNumbers(asked));
    const isReduced = kind !== "dense";
    const how = mechanismsOf(run);
    const parts = [scheduleName(run, rows), isReduced && spend,
      isReduced && how !== MECHANISMS.default && how, leftOutText(run)];
    setText(detail, parts.filter(Boolean).join(" · "));
  }

  append(at, rows) {
    this.sides[at].view.append(rows);
    this.describe(this.sides[at]);
    this.colour();
  }

  // What an answer is worth, once it is whole.
  setState(at, status) {
    const { kind } = status === "finished" ? outcomeOfSide(this.sides[at]) : { kind: "" };
    const words = kind in PILLS ? kind : `Against the full model: ${kind.toLowerCase()}`;
    const [name, colour] = kind ? [words, PILLS[kind] ?? "wait"] : STATES[status] ?? [status, "idle"];
    setPill(this.sides[at].state, name, colour);
  }

  // One scale for both, so that a colour means the same on either side.
  colour() {
    Object.assign(this.axes[0], stretched(this.sides.flatMap(({ rows }) => rows.map(shareOfBytes))));
    this.legend.set(this.legend.axis.key);
  }

  draw(compared) {
    this.sides.forEach((one, at) => { one.nll = compared.sides[at].nll; });
    if (compared.stretches) this.align(compared.stretches);
    setText(this.parted, this.hint);
    if (compared.parted !== null) {
      this.sides.forEach((one) => one.view.elements[compared.parted]?.classList.add("is-parted"));
    }
    const isOne = compared.same_prompt && compared.parted === null;
    this.verdict.draw([{ kind: "open", head: this.partedText(compared), rest: "" },
      !isOne && compared.verdict]);
    const problems = compared.sides.map(({ problem }, at) => problem && `${sideName(SIDES[at])}: ${problem}`);
    this.drawTable(problems.filter(Boolean), ["good", "bad"].includes(compared.verdict?.kind));
  }

  partedText({ same_prompt: isSame, parted, stretches }) {
    const ends = this.sides.map((one) => one.rows.length);
    if (!isSame) return "The prompts differ, so the texts stand side by side and are not aligned.";
    if (parted === null) return `Identical: both wrote the same ${count(ends[0], "token")}.`;
    const same = stretches.filter(([is]) => is).reduce((sum, [, a, b]) => sum + b - a, 0);
    if (parted === 0 && !same) return "The answers differ from the first word.";
    return `First difference at token ${parted + 1}. ${count(same, "token")} of ${Math.max(...ends)} agree.`;
  }

  // isTold: there is a verdict, so that the better number stands out.
  drawTable(problems, isTold) {
    show(this.table, true);
    this.lines.replaceChildren(...PAIR_LINES.map((line) => pairRow(line, this.sides, isTold)));
    setText(this.note, [TABLE_WORDS, ...problems].join(" "));
  }

  // Lays both texts out again, stretch by stretch: what belongs together stands in one row.
  align(stretches) {
    const partners = this.partners = this.sides.map(() => new Map());
    const texts = this.sides.map((one) => one.rows);
    this.sides.forEach((one) => one.view.clear());
    stretches.forEach(([same, a, aEnd, b, bEnd], row) => {
      [[a, aEnd], [b, bEnd]].forEach(([from, to], at) => {
        const block = this.sides[at].view.startBlock(blockAttributes(row, at, same));
        this.sides[at].view.append(texts[at].slice(from, to));
        if (from === to) block.append(h("span", { class: "sol-muted" }, "nothing here"));
      });
      for (let step = 0; same && step < aEnd - a; step += 1) {
        partners[0].set(a + step, b + step);
        partners[1].set(b + step, a + step);
      }
    });
    this.place.scrollTop = 0;
  }

  partnerOf(index, from, to) {
    return from === to ? index : this.partners?.[from].get(index) ?? null;
  }

  select(range, at) {
    this.sides[at].view.select(range);
  }
}

const blockAttributes = (row, at, same) => ({ class: `sol-pair-block${same ? "" : " is-apart"}`,
  "data-side": SIDES[at], "--row": row + 1, "--side": at + 1 });
