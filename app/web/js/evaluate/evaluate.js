// The Evaluate page: form, the evaluation on show with table and figures, the list. Python shapes the data;
// here it gets colours, axes and words.

import { ResultPage } from "../lab/job_page.js";
import {
  intervals, plainText, resultFigure, rule, smallTitle, themeColour,
} from "../shared/charts/plotly_chart.js";
import { glossed, h, headRow, selectOf, show } from "../shared/dom.js";
import {
  AXES, count, fixed, formNumbers, isNumber, MISSING, modelName, percent, roughly, signed, spendText,
  spentText,
} from "../shared/format.js";
import { pillsField } from "../shared/forms/form_parts.js";
import { tablePanel, tableRow } from "../shared/page_parts.js";
import { takeOver } from "../shared/tabs.js";

const MEASURE_NAMES = { nll: "NLL", kl: "KL to the full model" };

// A gain with its interval: above 0 the policy is better. kind: what Python makes of it.
/** @param {any[]} gain its value, low and high */
export const gainCell = ([gain, low, high], kind, text) => h("td",
  { class: "sol-gain", "data-verdict": kind },
  isNumber(gain) ? [text(gain), h("small", {}, `${text(low)} to ${text(high)}`)] : MISSING);

const budgetText = (budget, share) => (isNumber(share) ? `${+(100 * share).toFixed(1)} % compute`
  : budget.every(isNumber) ? spendText(formNumbers(budget)) : MISSING);
export const spentOf = (spend, share) => (isNumber(share) ? percent(share, 1) : spentText(spend));

class ResultTable {
  measure = pillsField({ legend: "Measure", choices: MEASURE_NAMES, value: "kl",
    changed: () => this.render() });
  against = h("div", {});
  table = h("table", { class: "sol-table" });
  element = tablePanel(this.table, { title: "Every budget", label: "Results by budget", name: "Table",
    head: h("div", { class: "sol-table-tools" }, this.measure.element, this.against),
    note: glossed("Gain: the [[baseline]]'s loss minus the policy's; above 0, the policy is better. "
      + "95 % [[interval]]. [[recovered|Recovered]]: of static's loss. "
      + "Spent: the policy above the baseline.") });

  take(view, onChoice) {
    this.view = view;
    this.onChoice = onChoice;
    const choices = Object.fromEntries(view.baselines.map((one) => [one.name, one.label]));
    const changed = () => {
      this.baseline = view.baselines.find((one) => one.name === pills.get()) ?? null;
      this.render();
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
    this.onChoice(baseline, measure);
    const full = measure === "nll" ? ["Full model"] : []; // to itself, it has no KL
    const rows = (this.view.rows[baseline.name] ?? []).map((row) => {
      const one = row[measure];
      const cells = [fixed(one.policy, 4), fixed(one.other, 4), ...full.map(() => fixed(one.dense, 4)),
        percent(one.recovered, 1)];
      return h("tr", {}, h("th", { scope: "row" }, budgetText(row.budget, row.asked_share)),
        gainCell(one.gain, one.kind, (value) => signed(value, 4)), cells.map((text) => h("td", {}, text)),
        h("td", {}, spentOf(row.spend, row.shares?.[0]),
          h("small", {}, spentOf(row.other_spend, row.shares?.[1]))));
    });
    this.table.replaceChildren(
      h("caption", { class: "sol-offscreen" },
        `${MEASURE_NAMES[measure]} of the policy and ${baseline.label} at every budget`),
      headRow(["Budget", "Gain, 95 %", "Policy", baseline.label, ...full, "Recovered", "Spent"]),
      h("tbody", {}, rows));
  }
}

export function partialTable(partial) {
  const budgets = (partial.budgets ?? []).filter((one) => one.requested && one.methods);
  if (!budgets.length) return null;
  const names = [...new Set(budgets.flatMap((one) => Object.keys(one.methods)))];
  return h("div", { class: "sol-table-place" }, h("table", { class: "sol-table" },
    h("caption", {}, `So far, over ${count(partial.texts ?? 0, "text")}: NLL, nats per token`),
    headRow(["Budget", ...names.map((name) => name.replace("_", " "))]),
    h("tbody", {}, budgets.map(({ requested: asked, methods }) => tableRow([
      budgetText(AXES.map((axis) => asked[axis.short]), asked.share),
      ...names.map((name) => fixed(methods[name]?.nll, 4))])))));
}

const METHOD_STYLE = {
  policy: { colour: "accent", symbol: "circle", size: 9 },
  static: { colour: "channels", symbol: "square", size: 7, dash: "dash" },
  dense: { colour: "muted", symbol: "star", size: 10 },
  random_best: { colour: "kl", symbol: "x", size: 7 },
  emc: { colour: "attention", symbol: "triangle-up", size: 8 },
  dac: { colour: "bits", symbol: "triangle-down", size: 8 },
};
const OTHER_COLOURS = ["surprisal", "good", "muted", "kl", "bits"];
const SYMBOLS = ["circle", "square", "diamond"]; // of the axes
const AXIS_KEYS = AXES.map((axis) => ({ id: axis.short, name: axis.name, colour: axis.key }));
const pointAxis = (title) => ({ title: smallTitle(title), ticksuffix: " %" });

const methodStyle = (name, at) => METHOD_STYLE[name]
  ?? { colour: OTHER_COLOURS[at % OTHER_COLOURS.length], symbol: "diamond", size: 8, dash: "dot" };

const measurePills = () =>
  pillsField({ legend: "Quality", choices: MEASURE_NAMES, value: "kl", kind: "is-head" });

const COSTS = {
  bytes: ["Bytes, computed", "MB that a step reads, computed", " MB"],
  flops: ["FLOPs, computed", "MFLOPs of a step, computed", " MFLOPs"],
  net: ["Mean spend", "mean of attention, MLP and bits", " %"],
};
const LEAST_SPAN = 0.1; // of the axis, as a share of its middle: methods at one budget cost nearly the same

function rangeAround(values) {
  const [low, high] = [Math.min(...values), Math.max(...values)];
  const missing = Math.max(0, LEAST_SPAN * (low + high) / 2 - (high - low)) / 2;
  const room = 0.06 * (high - low) + missing;
  return [Math.max(0, low - room), high + room];
}

function paretoFigure(data) {
  const measure = measurePills();
  const cost = selectOf(data.costs.map((name) => [name, COSTS[name][0]]),
    { class: "sol-input is-head", "aria-label": "Cost" });
  const styles = data.methods.map((one, place) => methodStyle(one.name, place));
  const known = (one) => one.points
    .filter((point) => isNumber(point.costs[cost.value]) && isNumber(point[measure.get()][0]));
  return resultFigure({
    data, title: "Pareto front", tools: h("div", { class: "sol-figure-tools" }, measure.element, cost),
    aid: "Each mark is a budget; lines are [[pareto front|Pareto fronts]]. Lower and further left is better. "
      + "Bars: 95 % [[interval|intervals]] of the loss against the full model.",
    keys: data.methods.map((one, place) => ({ id: one.name, name: one.label, ...styles[place] })),
    layout: () => ({ uirevision: `${measure.get()} ${cost.value}`, margin: { l: 52, r: 14, b: 38 },
      xaxis: { title: smallTitle(COSTS[cost.value][1]),
        range: rangeAround(data.methods.flatMap(known).map((point) => point.costs[cost.value])) },
      yaxis: { title: smallTitle(`${MEASURE_NAMES[measure.get()]}, nats per token`) } }),
    traces: () => data.methods.flatMap((one, place) => {
      const { colour, symbol, size, dash } = styles[place];
      const front = one.front[cost.value][measure.get()];
      const points = known(one);
      const lost = points.map((point) => point[measure.get()]);
      return [
        { meta: one.name, x: front.map((point) => point[0]), y: front.map((point) => point[1]),
          mode: "lines", hoverinfo: "skip", line: { color: themeColour(colour), width: 2, dash } },
        { meta: one.name, x: points.map((point) => point.costs[cost.value]), y: lost.map((value) => value[0]),
          mode: "markers", text: points.map((point) => point.label),
          error_y: intervals(lost, colour), marker: { color: themeColour(colour), symbol, size },
          hovertemplate: `${plainText(one.label)}<br>%{text}<br>%{y:.4f} nats at `
            + `%{x:.4~g}${COSTS[cost.value][2]}<extra></extra>` },
      ];
    }),
  });
}

// A budget under its place on an axis: a part a line.
const budgetTick = (label) => label.split(" · ").map((part) => part.replace(/ [a-z]+$/i, "")).join("<br>");

function violinFigure(data) {
  const measure = measurePills();
  const x = data.budgets.map((_, at) => at + 1);
  const marks = (name, label, options) => ({
    meta: name, x, y: data.budgets.map((one) => one[measure.get()][name]), mode: "markers",
    text: data.budgets.map((one) => one.label),
    hovertemplate: `${label} %{y:.4f} nats<br>%{text}<extra></extra>`, ...options,
  });
  const dash = (colour, width) => ({ symbol: "line-ew-open", size: 24,
    color: themeColour(colour), line: { color: themeColour(colour), width } });
  return resultFigure({
    data, title: "Random schedules", tools: measure.element,
    aid: "Each shape: random schedules of one budget. A policy that adapts well lies below all of them.",
    keys: [{ id: "policy", name: "Policy", colour: "accent", dash: "dots" },
      { id: "static", name: "Static", colour: "channels" },
      { id: "dense", name: "Full model", colour: "text", dash: "faint" },
      { id: "random", name: "Random", colour: "kl", dash: "bars" }],
    layout: () => ({ uirevision: measure.get(), violingap: 0.25, margin: { l: 52, r: 14, b: 74 },
      xaxis: { range: [0.4, x.length + 0.6], tickvals: x, showgrid: false, tickangle: 0,
        tickfont: { size: innerWidth < 520 ? 8 : 10, color: themeColour("muted") },
        ticktext: data.budgets.map((one) => budgetTick(one.label)) },
      yaxis: { title: smallTitle(`${MEASURE_NAMES[measure.get()]}, nats per token`) } }),
    traces: () => [
      ...data.budgets.map((one, at) => ({
        type: "violin", meta: "random", x0: at + 1, y: one[measure.get()].random, width: 0.8,
        points: one[measure.get()].random.length < 40 ? "all" : false, pointpos: 0, jitter: 0.35,
        line: { color: themeColour("kl"), width: 1 }, spanmode: "soft",
        fillcolor: `${themeColour("kl")}33`, marker: { size: 3, opacity: 0.5, color: themeColour("kl") },
        hoveron: "points", hovertemplate: "Random schedule %{y:.4f} nats<extra></extra>",
      })),
      marks("dense", "Full model", { marker: dash("text", 1) }),
      marks("static", "Static", { marker: dash("channels", 3) }),
      marks("policy", "Policy", { marker: { symbol: "circle", size: 9, color: themeColour("accent"),
        line: { color: themeColour("panel"), width: 1.5 } } }),
    ],
  });
}

function adherenceFigure(data) {
  const rows = AXES.map((axis) => data[axis.short] ?? []);
  const values = rows.flat().flatMap(([asked, got]) => [asked, got]).filter(isNumber);
  const [low, high] = [Math.min(...values) * 100 - 4, Math.max(...values) * 100 + 4];
  return resultFigure({
    data, title: "Budget adherence", keys: AXIS_KEYS,
    aid: "On the line the [[budget]] is met ([[adherence]]). Bars: the mean deviation of a single text.",
    layout: () => ({ xaxis: { ...pointAxis("requested"), range: [low, high] },
      yaxis: { ...pointAxis("spent"), range: [low, high] },
      shapes: [rule({ x0: low, y0: low, x1: high, y1: high }, "edge", "dot")] }),
    traces: () => AXES.map((axis, at) => ({
      meta: axis.short, mode: "markers", x: rows[at].map((row) => 100 * row[0]),
      y: rows[at].map((row) => 100 * row[1]), text: rows[at].map((row) => row[3]),
      marker: { color: themeColour(axis.key), size: 8, symbol: SYMBOLS[at] },
      error_y: { type: "data", array: rows[at].map((row) => 100 * (row[2] ?? 0)), thickness: 1.2, width: 3,
        color: themeColour(axis.key) },
      hovertemplate: `${axis.name}: asked %{x:.1f} %, spent %{y:.2f} %<br>%{text}<extra></extra>`,
    })),
  });
}

export const FIGURES = { pareto: paretoFigure, violin: violinFigure, adherence: adherenceFigure };

export class EvaluatePage extends ResultPage {
  constructor(root, api, page) {
    super(root, api, page, { kind: "evaluate", part: "evaluation", noun: "evaluation",
      wrong: "This job is not an evaluation. Open it under Train.", go: "Start evaluation",
      list: { heading: "Evaluations", kind: "evaluate" }, files: ["json", "csv"] });
    this.partial = h("div", { class: "sol-partial" });
    this.table = new ResultTable();
    this.lay([this.verdict.element, this.about, this.partial], this.table.element, this.figures);
  }

  async begin() {
    await super.begin();
    takeOver("evaluate-policy", async (name) => {
      await this.home();
      this.form.policies?.set([name]);
      this.form.changed();
    });
  }

  rest() {
    super.rest();
    this.partial.replaceChildren();
    show(this.table.element, false);
  }

  showPartial(partial) {
    this.partial.replaceChildren(partial && partialTable(partial) || "");
  }

  draw({ view }) {
    this.tellAbout(aboutParts(view.about));
    const hasTable = view.baselines.length > 0;
    show(this.table.element, hasTable);
    if (hasTable) {
      this.table.take(view, ({ name }, measure) => this.verdict.draw([view.verdicts[name][measure]]));
    } else this.panel.say("This result has no comparison to show. Its JSON holds everything.");
    this.drawFigures(Object.entries(FIGURES).filter(([name]) => view.figures[name])
      .map(([name, make]) => make(view.figures[name])));
  }
}

function aboutParts({ policy, model, corpus, scored_tokens: scored, texts, steps, context, elapsed_s: s }) {
  const windows = scored / (texts * steps);
  return [policy && `Policy ${policy}`, model && modelName(model), corpus && `text ${modelName(corpus)}`,
    isNumber(scored) && count(scored, "scored token"),
    texts && `${texts} texts × ${windows > 1 ? `${windows} windows × ` : ""}${steps} steps after `
      + count(context, "token"),
    isNumber(s) && `took ${roughly(s)}`];
}
