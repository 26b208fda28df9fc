// One dial: the share of the full model's bytes. Python says which mix of attention and MLP meets it after a
// prompt of this length, and until somebody turns the dial it stands where the text stays the full model's. Under
// "Set each axis" the two have budgets of their own instead; bits always have one.

import { h, setText, show, uniqueId } from "../shared/dom.js";
import { count, percent, sentence, spendText } from "../shared/format.js";
import { glossed } from "../shared/glossary.js";
import { memory } from "../shared/memory.js";

const OPEN = "budgetAxes";
const ASK_AFTER_MS = 150;

/** Python's answer (handlers.estimate_budget). @typedef {{ context: number, share: number, mix: Record<string, number>,
 *   lowest?: number, usual?: number, measured_on?: string }} Estimate: the last three of a budget of bytes */

export class BudgetDial {
  // fields: by the axes' short names; usual: the form's default; ask(): the estimate; changed(): the form has other
  // values now
  constructor(fields, usual, ask, changed) {
    this.fields = fields;
    this.ask = ask;
    this.changed = changed;
    /** @type {Estimate | null} */
    this.estimate = null;
    this.value = 0; // percent of the bytes; 0: each axis has a budget of its own
    this.isUsual = false; // it follows the prompt's length
    this.range = h("input", { type: "range", min: 1, max: 100, step: 1, class: "sol-range", id: uniqueId("field"),
      oninput: () => this.turn() });
    this.output = h("output", { class: "sol-dial-share", for: this.range.id });
    this.note = h("p", { class: "sol-hint" });
    const { bits, ...axes } = fields;
    Object.values(axes).forEach((field) => field.element.addEventListener("input", () => this.take(0)));
    this.axes = h("details", { class: "sol-axes", open: memory.get(OPEN) === "open",
      ontoggle: () => memory.set(OPEN, this.axes.open ? "open" : "closed") },
    h("summary", {}, "Set each axis"), Object.values(axes).map((field) => field.element), bits.element);
    this.element = h("div", { class: "sol-dial" }, h("div", { class: "sol-slider" },
      h("div", { class: "sol-slider-head" }, h("label", { for: this.range.id }, "Compute"), this.output),
      this.range, this.note), this.axes);
    // As a field of the form.
    this.field = { get: () => this.value, set: (value) => this.take(Number(value) || 0, Number(value) === usual) };
  }

  take(value, isUsual = false) {
    this.value = value;
    this.isUsual = isUsual;
  }

  turn() {
    this.take(this.range.valueAsNumber);
    this.say();
  }

  // The form has other values: the dial stands where the share is; the axes unfold where they decide.
  follow() {
    if (!this.value || this.fields.bits.problem()) this.axes.open = true;
    this.say();
    clearTimeout(this.timer);
    this.timer = setTimeout(() => this.refresh(), ASK_AFTER_MS);
  }

  async refresh() {
    const asked = (this.asked = {}); // only the last answer counts
    const answer = await this.ask().catch(() => null); // what is wrong is said when it is sent
    if (asked !== this.asked) return;
    this.estimate = answer?.share ? answer : null;
    if (this.estimate && this.value) this.useMix(this.estimate);
    this.say();
  }

  // A share that cannot be reached after so short a prompt rises to the lowest one.
  /** @param {Estimate} estimate */
  useMix({ lowest = 0, usual = 1, mix }) {
    const least = Math.ceil(100 * lowest);
    this.range.min = String(least);
    const value = this.isUsual ? Math.max(least, Math.ceil(100 * usual)) : Math.max(least, this.value);
    if (value !== this.value) {
      this.value = value;
      return this.changed(); // and asks again
    }
    for (const name of ["keep", "channels"]) this.fields[name].set(Math.round(mix[name]));
  }

  say() {
    const { estimate, value } = this;
    const share = value || (estimate ? Math.round(100 * estimate.share) : 0);
    if (share) this.range.value = String(share);
    const least = Number(this.range.min);
    this.range.style.setProperty("--fill", String((Number(this.range.value) - least) / (100 - least)));
    setText(this.output, share ? `${share} %` : "");
    const values = Object.fromEntries(Object.entries(this.fields).map(([name, field]) => [name, field.get()]));
    const mix = spendText(values);
    this.range.setAttribute("aria-valuetext", `${share} %: ${mix}`);
    show(this.note, Boolean(estimate));
    if (!estimate) return;
    const after = `after about ${count(estimate.context, "token")}`;
    this.note.replaceChildren(...glossed(value
      ? `Share of the full model’s bytes. ${sentence(after)}: ${mix}. The least possible is ${percent(estimate.lowest ?? 0)}.${
        estimate.measured_on ? ` The mix was chosen by measurements on ${estimate.measured_on}, not on this model.` : ""}`
      : `Each [[axis]] has its own budget: ${mix}. ${sentence(after)} that is this compute.`));
  }
}
