// One dial for the axes of a budget, and what they come to: an estimate that Python makes.

import { h, setText, uniqueId } from "../shared/dom.js";
import { AXES, count, percent, spendText } from "../shared/format.js";
import { glossed } from "../shared/glossary.js";
import { memory } from "../shared/memory.js";

const OPEN = "budgetAxes";
const ASK_AFTER_MS = 150;

// Levels at a place of the dial, which is the attention kept: straight from all-dense to the form's default, and
// from there to the lowest levels. Attention falls fastest down to the default, and as fast as channels below it: with
// pages chosen by 4-bit keys, cutting it hurts least (docs/results.md: 0.007 nats at 40 %).
function levelsAt(keep, middle) {
  const end = (side) => Object.fromEntries(AXES.map((axis) => [axis.short, axis[axis.isUsual ? side : "max"]]));
  const [from, to] = keep >= middle.keep ? [middle, end("max")] : [end("min"), middle];
  const share = (keep - from.keep) / (to.keep - from.keep);
  const between = ({ short, step }) => Math.round((from[short] + share * (to[short] - from[short])) / step) * step;
  return { ...Object.fromEntries(AXES.map((axis) => [axis.short, between(axis)])), keep };
}

export class BudgetDial {
  // fields: by the axes' short names; middle: their defaults; ask(): the estimate, {bytes_share, context}
  constructor(fields, middle, ask) {
    this.fields = fields;
    this.middle = middle;
    this.ask = ask;
    const { min, max } = fields.keep.input;
    this.range = h("input", { type: "range", min, max, step: 1, class: "sol-range", id: uniqueId("field"),
      oninput: () => this.turn() });
    this.share = h("output", { class: "sol-dial-share", for: this.range.id });
    this.note = h("p", { class: "sol-hint" });
    this.axes = h("details", { class: "sol-axes", open: memory.get(OPEN) === "open",
      ontoggle: () => memory.set(OPEN, this.axes.open ? "open" : "closed") },
    h("summary", {}, "Set each axis"), Object.values(fields).map((field) => field.element));
    this.element = h("div", { class: "sol-dial" }, h("div", { class: "sol-slider" },
      h("div", { class: "sol-slider-head" }, h("label", { for: this.range.id }, "Share of dense compute"), this.share),
      this.range, this.note), this.axes);
  }

  turn() {
    const levels = levelsAt(this.range.valueAsNumber, this.middle);
    Object.entries(this.fields).forEach(([name, field]) => field.set(levels[name]));
    this.follow();
  }

  // The axes have values: the dial stands where their attention is; they unfold where it does not set them so.
  follow() {
    const values = Object.fromEntries(Object.entries(this.fields).map(([name, field]) => [name, field.get()]));
    const { keep } = values;
    if (Object.values(this.fields).some((field) => field.problem())) return this.open();
    this.range.value = keep;
    this.range.style.setProperty("--fill", (keep - this.range.min) / (this.range.max - this.range.min));
    const line = levelsAt(keep, this.middle);
    if (AXES.some(({ short }) => line[short] !== values[short])) this.open();
    this.words = spendText(values);
    this.say();
    clearTimeout(this.timer);
    this.timer = setTimeout(() => this.refresh(), ASK_AFTER_MS);
  }

  open() {
    this.axes.open = true;
  }

  async refresh() {
    const asked = (this.asked = {}); // only the last answer counts
    const answer = await this.ask().catch(() => null); // what is wrong is said when it is sent
    if (asked !== this.asked || !this.words) return;
    this.estimate = answer?.bytes_share ? answer : null;
    this.say();
  }

  say() {
    const { bytes_share: share = null, context = 0 } = this.estimate ?? {};
    const text = share === null ? "" : `about ${percent(share)}`;
    setText(this.share, text);
    this.range.setAttribute("aria-valuetext", [text, this.words].filter(Boolean).join(": "));
    this.note.replaceChildren(...glossed(`Sets all [[axis|axes]]: ${this.words}.`
      + (text && ` Estimate: bytes read a token, after ${count(context, "token")}, as a share of [[dense]].`)));
  }
}
