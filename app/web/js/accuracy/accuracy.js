// Puts the Accuracy page together: form, the measurement on show with table and figures, the list.

import { gainCell, spentOf } from "../evaluate/evaluate.js";
import { TASKS_JOB } from "../lab/job_list.js";
import { ResultPage, SHIPPED } from "../lab/job_page.js";
import { across, intervals, resultFigure, smallTitle, themeColour } from "../shared/charts/plotly_chart.js";
import { glossed, h, headRow } from "../shared/dom.js";
import {
  AXES, count, fixed, isNumber, MISSING, modelName, percent, roughly, signed,
} from "../shared/format.js";
import { tablePanel } from "../shared/page_parts.js";

const TASK_METHODS = {
  policy: { name: "Policy", colour: "accent", symbol: "circle" },
  static: { name: "Static", colour: "channels", symbol: "square", dash: "dash" },
  paper: { name: "Static, paper's mechanisms", colour: "attention", symbol: "x", dash: "dash" },
};
const points = (share) => signed(100 * share, 1);

function taskFigure(task) {
  const styles = Object.entries(TASK_METHODS).filter(([id]) => task.points[id]);
  const lines = [[task.dense.mean, "text", "solid"], [task.chance, "muted", "dot"]]
    .filter(([share]) => isNumber(share));
  const hasBytes = styles.every(([id]) => task.points[id].every((one) => isNumber(one.share)));
  const spent = hasBytes ? "[[compute]]" : "[[mean spend]]";
  const of = (one) => 100 * (hasBytes ? one.share : one.net);
  return resultFigure({
    title: task.label,
    aid: `${count(task.questions, "question")}. Bars are 95 % [[interval|intervals]]; across: ${spent}.`,
    keys: [...styles.map(([id, one]) => ({ id, ...one })),
      { id: "dense", name: "Full model", colour: "text", dash: "faint" },
      ...(lines.length > 1 ? [{ id: "chance", name: "Chance", colour: "muted", dash: "dots" }] : [])],
    layout: () => ({ margin: { l: 46, r: 14, b: 38 },
      xaxis: { title: smallTitle(spent.slice(2, -2)), ticksuffix: " %" },
      yaxis: { title: smallTitle("accuracy"), ticksuffix: " %" },
      shapes: lines.map(([share, colour, dash]) => across(100 * share, colour, dash)) }),
    traces: () => styles.map(([id, style]) => {
      const list = task.points[id].toSorted((a, b) => of(a) - of(b));
      return { meta: id, x: list.map(of), y: list.map((one) => 100 * one.mean),
        text: list.map((one) => one.label), mode: "lines+markers",
        error_y: intervals(list.map((one) => bounded(one).map((share) => 100 * share)), style.colour),
        line: { color: themeColour(style.colour), width: 1.5, dash: style.dash },
        marker: { color: themeColour(style.colour), symbol: style.symbol, size: 8 },
        hovertemplate: `${style.name} %{y:.1f} %<br>asked %{text}<br>`
          + `spent %{x:.1f} % ${spent.slice(2, -2)}<extra></extra>` };
    }),
  });
}

const accuracyText = (point) => [percent(point?.mean, 1),
  h("small", {}, point && `${(100 * point.low).toFixed(1)} to ${(100 * point.high).toFixed(1)}`)];
const taskSpend = (point) =>
  (point ? spentOf(AXES.map((axis) => point.spend[axis.short]), point.share) : MISSING);
const bounded = (one) => [one?.mean, one?.low, one?.high];
const megabytes = (point) =>
  (isNumber(point?.bytes_per_token) ? fixed(point.bytes_per_token / 1e6, 1) : MISSING);

function accuracyTable(tasks) {
  const methods = Object.entries(TASK_METHODS).filter(([id]) => tasks.some((one) => one.points[id]));
  const row = (task, one, at) => h("tr", {},
    at === 0 ? h("th", { scope: "rowgroup", rowspan: task.rows.length }, task.label,
      h("small", {}, `full model ${percent(task.dense.mean, 1)}`
        + (isNumber(task.chance) ? `, chance ${percent(task.chance, 0)}` : ""))) : null,
    h("th", { scope: "row" }, one.label),
    gainCell(bounded(one.gain), one.kinds.gain, points),
    gainCell(bounded(one.nll_gain), one.kinds.nll_gain, signed),
    ...methods.map(([id]) => h("td", {}, accuracyText(one.methods[id]))),
    h("td", {}, taskSpend(one.methods.policy), h("small", {}, taskSpend(one.methods.static))),
    h("td", {}, megabytes(one.methods.policy),
      h("small", {}, methods.slice(1).map(([id]) => megabytes(one.methods[id])).join(" · "))));
  return tablePanel(h("table", { class: "sol-table sol-task-table" },
    headRow(["Task", "Asked", "Gain, points", "NLL gain",
      ...methods.map(([, style]) => style.name), "Compute", "MB a token"]),
    tasks.map((task) => h("tbody", {}, task.rows.map((one, at) => row(task, one, at))))),
  { title: "Every task and budget", label: "Every task and budget", name: "Table",
    note: glossed("Gain: [[policy]] minus [[static]], 95 % paired bootstrap over questions. NLL gain: "
      + "static's [[NLL]] of the right answer minus the policy's, nats per token. Compute and MB a token, "
      + "computed: the policy's above the others'. Short answers take few steps, so [[spend]] and "
      + "[[budget]] may differ.") });
}

export class AccuracyPage extends ResultPage {
  constructor(root, api, page) {
    super(root, api, page, { kind: TASKS_JOB, part: "accuracy", noun: "measurement",
      wrong: "This job does not measure accuracy. Open it under Train.", go: "Measure accuracy",
      list: { heading: "Measurements", kind: TASKS_JOB }, files: ["json"] });
    this.table = h("div");
    this.lay([this.verdict.element, this.about], this.figures, this.table);
  }

  rest() {
    super.rest();
    this.table.replaceChildren();
  }

  draw({ view: { about, tasks, pooled, verdict } }) {
    this.tellAbout([`Policy ${about.policy}`, modelName(about.model ?? ""),
      `${this.shown === SHIPPED ? "Shipped: " : ""}${about.asked}, seed ${about.seed}`,
      isNumber(about.elapsed_s) && `took ${roughly(about.elapsed_s)}`]);
    this.verdict.draw([verdict]);
    const all = [...tasks, ...pooled];
    this.table.replaceChildren(accuracyTable(all));
    this.drawFigures(all.map(taskFigure));
  }
}
