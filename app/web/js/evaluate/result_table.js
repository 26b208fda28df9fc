// The result in numbers: a table of every budget.

import { h, headRow } from "../shared/dom.js";
import { AXES, count, fixed, formNumbers, isNumber, MISSING, percent, signed, spendText, spentText } from "../shared/format.js";
import { pillsField } from "../shared/forms/form_parts.js";
import { glossed } from "../shared/glossary.js";
import { tablePanel } from "../shared/page_parts.js";

export const MEASURE_NAMES = { nll: "NLL", kl: "KL to the full model" };

const gainText = (value) => signed(value, 4);

function intervalText([gain, low, high]) {
  if (!isNumber(gain)) return MISSING;
  return [gainText(gain), h("small", {}, `${gainText(low)} to ${gainText(high)}`)];
}

// A share of the full model's bytes, or a number per axis.
const budgetText = (budget, share) => (isNumber(share) ? `${+(100 * share).toFixed(1)} % compute`
  : budget.every(isNumber) ? spendText(formNumbers(budget)) : MISSING);
const spent = (spend, share) => (isNumber(share) ? percent(share, 1) : spentText(spend));

const verdict = ([, low, high]) => (low > 0 ? "good" : high < 0 ? "bad" : "open");

export class ResultTable {
  constructor() {
    this.measure = pillsField({ legend: "Measure", choices: MEASURE_NAMES, value: "nll", changed: () => this.render() });
    this.against = h("div", {});
    this.table = h("table", { class: "sol-table" });
    this.element = tablePanel(this.table, { title: "Every budget", label: "Results by budget", name: "Table",
      head: h("div", { class: "sol-table-tools" }, this.measure.element, this.against),
      note: glossed("Gain: [[baseline]] minus policy, so above 0 the policy is better; 95 % paired bootstrap "
        + "[[interval]] over texts. Recovered: the share of static's loss that the policy avoids. "
        + "Spent: by the policy, and below it by the baseline, in the budget's order.") });
  }

  take(view, onBaseline) {
    this.view = view;
    const choices = Object.fromEntries(view.baselines.map((one) => [one.name, one.label]));
    const changed = () => {
      this.baseline = view.baselines.find((one) => one.name === pills.get()) ?? null;
      this.render();
      onBaseline(this.baseline);
    };
    const pills = pillsField({ legend: "Policy against", choices, changed,
      value: "static" in choices ? "static" : view.baselines[0]?.name });
    this.against.replaceChildren(pills.element);
    changed();
  }

  render() {
    const { baseline } = this;
    const measure = this.measure.get();
    if (!baseline) return;
    const rows = (this.view.rows[baseline.name] ?? []).map((row) => {
      const one = row[measure];
      return h("tr", {},
        h("th", { scope: "row" }, budgetText(row.budget, row.asked_share)),
        h("td", { class: "sol-gain", "data-verdict": verdict(one.gain) }, intervalText(one.gain)),
        h("td", {}, fixed(one.policy, 4)), h("td", {}, fixed(one.other, 4)),
        h("td", {}, fixed(one.dense, 4)),
        h("td", {}, percent(row.win_rate)), h("td", {}, percent(one.recovered, 1)),
        h("td", { class: "sol-spends" }, spent(row.spend, row.shares?.[0]),
          h("small", {}, spent(row.other_spend, row.shares?.[1]))));
    });
    this.table.replaceChildren(
      h("caption", { class: "sol-offscreen" }, `${MEASURE_NAMES[measure]} of the policy and ${baseline.label} at every budget`),
      headRow(["Budget", "Gain, 95 %", "Policy", baseline.label, "Full model", "Texts won", "Recovered", "Spent"]),
      h("tbody", {}, rows));
  }
}

// Means so far, while it runs.
export function partialTable(partial) {
  const budgets = (partial.budgets ?? []).filter((one) => one.requested && one.methods);
  if (!budgets.length) return null;
  const names = [...new Set(budgets.flatMap((one) => Object.keys(one.methods)))];
  return h("div", { class: "sol-table-place" }, h("table", { class: "sol-table" },
    h("caption", {}, `So far, over ${count(partial.texts ?? 0, "text")}: NLL, nats per token`),
    headRow(["Budget", ...names.map((name) => name.replace("_", " "))]),
    h("tbody", {}, budgets.map(({ requested: asked, methods }) => h("tr", {},
      h("th", { scope: "row" }, budgetText(AXES.map((axis) => asked[axis.short]), asked.share)),
      names.map((name) => h("td", {}, fixed(methods[name]?.nll, 4))))))));
}
