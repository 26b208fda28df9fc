// Reports of a training over the minutes of work. A report may lack any number: each line has its own x.

import { show } from "../dom.js";
import { AXES, isNumber, sentence } from "../format.js";
import { LiveCharts } from "./chart.js";
import { Figure, rule, smallTitle, themeColour } from "./plotly_chart.js";

class TrainSeries {
  constructor(id) {
    this.id = id;
    this.x = [];
    this.lines = {};
    this.last = {};
    this.phases = [];
    this.labelled = 0; // texts
  }

  add(row) {
    const minutes = (row.elapsed_s ?? 0) / 60;
    this.x.push(minutes);
    // Measuring comes and goes; a phase is marked where it begins.
    if (row.phase && row.phase !== "measuring" && !this.phases.some((one) => one.name === row.phase)) {
      this.phases.push({ name: row.phase, from: minutes });
    }
    this.phase = row.phase ?? this.phase;
    if (row.phase === "labelling") this.labelled += 1;
    for (const [name, value] of metricsOf(row)) {
      const line = (this.lines[name] ??= { x: [], y: [] });
      line.x.push(minutes);
      line.y.push(value);
      this.last[name] = value;
    }
  }

  line(name, scale = 1) {
    const line = this.lines[name] ?? { x: [], y: [] };
    return { x: line.x, y: scale === 1 ? line.y : line.y.map((value) => scale * value) };
  }
}

// A report's numbers by their lines: losses by phase, which do not compare; NLL as what is lost to dense.
/** @param {{ phase?: string, metrics?: Record<string, number> }} row @returns {[string, number][]} */
function metricsOf({ phase, metrics = {} }) {
  const { loss, nll, nll_static: nllStatic, nll_dense: dense } = metrics;
  return Object.entries({ ...metrics, [`loss ${phase}`]: loss,
    nll_lost: nll - dense, nll_lost_static: nllStatic - dense }).filter(([, value]) => isNumber(value));
}

const ROUND = [1, 1.5, 2, 3, 4, 5, 6, 8];

// The next round number above: an axis that ends there stays still while its data grow.
function roundAbove(value) {
  if (!(value > 0)) return 1;
  const power = 10 ** Math.floor(Math.log10(value));
  return power * (ROUND.find((one) => one * power >= value) ?? 10);
}

const PHASE_NAMES = { preparing: "Choosing and reading training texts", labelling: "Labelling texts",
  grpo: "Rollouts (GRPO)", calibrating: "Calibrating prices", measuring: "Measuring on held-out text" };
export const phaseName = (name) => PHASE_NAMES[name] ?? sentence(name);

// A chart of some metrics; it only knows of the reports that carry one of them. lines: from back to front.
/** @param {{ title: string, aid: string, y: Scale, y2?: Scale, shapes?: () => object[],
 *   lines: MetricLine[] }} chart */
function metricChart({ title, aid, y, y2, shapes = () => [], lines }) {
  return new Figure({
    title, aid, isKnown: (data) => lines.some((line) => data.lines[line.id]),
    keys: lines.toReversed().map(({ id, name, colour, dash }) => ({ id, name, colour, dash })),
    layout: (data) => ({
      uirevision: data.id, datarevision: data.x.length,
      margin: { l: 58, r: y2 ? 52 : 14, b: 36 },
      xaxis: { title: smallTitle("minutes of work", 4), range: [0, endOfAxis(data)],
        unifiedhovertitle: { text: "%{x:.1f} min" } },
      yaxis: scaleOf(y, data, lines.filter((line) => !line.isSecond)),
      ...(y2 && { yaxis2: { ...scaleOf(y2, data, lines.filter((line) => line.isSecond)), nticks: 5 } }),
      shapes: [...phaseMarks(data), ...shapes()],
    }),
    traces: (data) => lines.map((line) => metricLine(data, line)),
  });
}

const endOfAxis = ({ x }) => roundAbove(Math.max(0.5, 1.01 * (x.at(-1) ?? 0)));

// Both sides are shown where a value lies on the usually empty one: a compressed step may surprise less.
function scaleOf({ title, sign, least = 0, ...more }, data, lines) {
  const values = lines.flatMap((line) => data.line(line.id, line.scale).y);
  const end = roundAbove(values.reduce((top, value) => Math.max(top, 1.04 * Math.abs(value)), least));
  const isBoth = sign === 0 || values.some((value) => sign * value < 0);
  const range = sign === null ? {} : { range: [isBoth || sign < 0 ? -end : 0, isBoth || sign > 0 ? end : 0] };
  return { title: smallTitle(title), zerolinecolor: themeColour("edge"), ...range, ...more };
}

// Names of phases stand above the chart, in two rows by turns, so that those of short phases fit.
function phaseMarks(data) {
  const late = 0.6 * endOfAxis(data);
  return data.phases.slice(1).map(({ name, from }, at) => ({
    ...rule({ xref: "x", yref: "paper", y0: 0, y1: 1, x0: from, x1: from }, "edge", "dot"),
    label: { text: phaseName(name), textposition: "end", textangle: 0, padding: at % 2 ? 1 : 12,
      yanchor: "bottom", xanchor: from > late ? "right" : "left",
      font: { size: 10, color: themeColour("muted") } } }));
}

/** @param {TrainSeries} data @param {MetricLine} line */
function metricLine(data, { id, words, colour, dash, scale, isSecond = false, isHeld = false }) {
  const { x, y } = data.line(id, scale);
  const size = x.length > 60 ? 0.1 : 4;
  const isLate = isHeld && x.at(-1) < data.x.at(-1); // then it goes on to now, without a mark there
  return { meta: id, x: isLate ? [...x, data.x.at(-1)] : x, y: isLate ? [...y, y.at(-1)] : y,
    mode: "lines+markers", yaxis: isSecond ? "y2" : undefined,
    line: { color: themeColour(colour), width: isSecond ? 1.5 : 2.2, dash },
    marker: { size: isLate ? [...x.map(() => size), 0] : size, color: themeColour(colour) },
    hovertemplate: `${words}<extra></extra>` };
}

const heldOutChart = (id, title, aid) => metricChart({
  title, aid, y: { title: "nats per token", sign: 1 },
  lines: [
    { id: `${id}_static`, name: "Static, same spend", words: "Static %{y:.4f} nats", colour: "channels",
      dash: "dash", isHeld: true },
    { id, name: "Policy", words: "Policy %{y:.4f} nats", colour: "accent" },
  ],
});
const lossLine = (phase, name, words, colour) =>
  ({ id: `loss ${phase}`, name, words, colour, isSecond: true });

const trainCharts = () => [
  heldOutChart("kl", "Held-out KL to the full model",
    "Unseen text, greedy: below the dashed line the policy loses less than [[static]] for the same "
    + "[[spend]]. Early points come from a trial policy."),
  heldOutChart("nll_lost", "Held-out NLL above the full model",
    "How much more unseen text surprises the model ([[nll|NLL]]) than the [[dense|full model]] (0)."),
  metricChart({
    title: "Reward and loss",
    y: { title: "reward, nats per token", sign: -1 }, y2: { title: "loss", sign: null },
    aid: "[[reward|Reward]] of the [[rollout|rollouts]] should rise. Do not compare losses of phases: the "
      + "[[warm start]]'s with [[grpo|GRPO]]'s.",
    lines: [
      lossLine("labelling", "Labels", "Labels' mean KL %{y:.4f} nats", "muted"),
      lossLine("warm start", "Loss, warm start", "Warm start's loss %{y:.4f}", "channels"),
      lossLine("grpo", "Loss, rollouts", "Loss of the rollouts %{y:.4f}", "bits"),
      { id: "reward", name: "Reward", words: "Reward %{y:.4f} nats", colour: "good" },
    ],
  }),
  metricChart({
    title: "Budget gap", y: { title: "points", zeroline: true, sign: 0, least: 3 },
    aid: "Mean spend minus [[budget]], in points. Inside the band of ±2 points it is on budget.",
    shapes: () => [{ type: "rect", xref: "paper", x0: 0, x1: 1, y0: -2, y1: 2,
      fillcolor: themeColour("good"), opacity: 0.1, line: { width: 0 }, layer: "below" }],
    lines: AXES.toReversed().map((axis) => ({ id: `gap_${axis.short}`, name: axis.name, colour: axis.key,
      words: `${axis.name} %{y:+.2f} points`, scale: 100 })),
  }),
  metricChart({
    title: "Exploration", y: { title: "nats", sign: 1 }, y2: { title: "clipped, %", sign: 1 },
    aid: "[[entropy|Entropy]]: how undecided the policy is. Clipped above 30 %: its steps are too large.",
    lines: [
      { id: "clip_fraction", name: "Clipped", words: "Clipped %{y:.1f} %", colour: "surprisal",
        isSecond: true, scale: 100 },
      { id: "entropy", name: "Entropy", words: "Entropy %{y:.3f} nats", colour: "kl" },
    ],
  }),
  metricChart({
    title: "Speed", y: { title: "decisions per second", sign: 1 },
    aid: "Actions taken or labelled per second, measured. Labelling and rollouts differ by nature.",
    lines: [{ id: "decisions_per_s", name: "Decisions", words: "%{y:.0f} decisions/s",
      colour: "attention" }],
  }),
];

export class TrainCharts extends LiveCharts {
  constructor() {
    super(trainCharts(), "sol-figures is-train");
    this.clear(null);
  }

  clear(id) {
    this.reset(new TrainSeries(id));
    this.append([]);
  }

  append(rows) {
    rows.forEach((row) => this.data.add(row));
    this.all.forEach((chart) => show(chart.element, !chart.isEmpty));
    if (rows.length) this.drawSoon();
  }
}
