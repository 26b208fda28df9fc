// Reports of a training as arrays over the minutes of work, and their charts. Any number may be
// missing from a report: each line has its own x.

import { h, wait } from "../dom.js";
import { AXES, isNumber } from "../format.js";
import { Figure, redrawOnTheme, smallTitle } from "./figure.js";
import { themeColour } from "./plotly.js";

class TrainSeries {
  constructor(id) {
    this.id = id;
    this.x = [];
    this.lines = {};
    this.last = {};
    this.phases = [];
  }

  add(row) {
    const minutes = (row.elapsed_s ?? 0) / 60;
    this.x.push(minutes);
    // Measuring comes and goes; a phase is marked where it begins.
    if (row.phase && row.phase !== "measuring" && !this.phases.some((one) => one.name === row.phase)) {
      this.phases.push({ name: row.phase, from: minutes });
    }
    this.phase = row.phase ?? this.phase;
    for (const [name, value] of Object.entries(row.metrics ?? {})) {
      if (!isNumber(value)) continue;
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

  has(names) {
    return names.some((name) => this.lines[name]);
  }
}

const PHASE_NAMES = { preparing: "Preparing", labelling: "Labelling texts", "warm start": "Warm start",
  grpo: "GRPO", calibrating: "Calibrating prices", measuring: "Measuring" };
export const phaseName = (name) => PHASE_NAMES[name] ?? name;

// A chart of some metrics only knows of the reports that carry one of them.
function metricChart(spec) {
  return new Figure({
    ...spec,
    empty: spec.empty ?? "Appears with the first report that measures it.",
    layout: (data) => ({
      uirevision: data.id, datarevision: data.x.length,
      margin: { l: 58, r: spec.isTwoScaled ? 52 : 14, t: 8, b: 36 },
      xaxis: { title: smallTitle("minutes of work", 4), range: [0, Math.max(0.5, 1.02 * (data.x.at(-1) ?? 0))],
        unifiedhovertitle: { text: "%{x:.1f} min" } },
      shapes: phaseMarks(data),
      ...spec.layout(data),
    }),
  });
}

const NAMED_FROM = 0.17; // of the chart's width: a shorter phase has no room for its name

function phaseMarks(data) {
  const end = data.x.at(-1) ?? 0;
  return data.phases.slice(1).map((phase, at, phases) => {
    const share = ((phases[at + 1]?.from ?? end) - phase.from) / (end || 1);
    return { type: "line", xref: "x", yref: "paper", y0: 0, y1: 1,
      x0: phase.from, x1: phase.from, line: { color: themeColour("edge"), width: 1, dash: "dot" },
      label: { text: share < NAMED_FROM ? "" : phaseName(phase.name), textposition: "end", textangle: 0,
        yanchor: "top", xanchor: "left", font: { size: 10, color: themeColour("muted") } } };
  });
}

const metricLine = (data, name, words, options = {}) => ({
  meta: name, ...data.line(name, options.scale), mode: "lines+markers", yaxis: options.yaxis,
  line: { color: themeColour(options.colour), width: options.width ?? 2.2, dash: options.dash },
  marker: { size: data.line(name).x.length > 60 ? 0.1 : 4, color: themeColour(options.colour) },
  hovertemplate: `${words}<extra></extra>`,
});

const QUALITY_KEYS = (name) => [
  { id: name, name: "Policy", colour: "accent" },
  { id: `${name}_static`, name: "Static, same spend", colour: "channels", dash: "dash" },
];

function trainCharts() {
  return [
    metricChart({
      title: "Held-out KL to dense", keys: QUALITY_KEYS("kl"), uses: ["kl", "kl_static"],
      aid: "Unseen text, greedy. Below the dashed line, the policy changes the model's predictions less than [[static]] does for the same [[spend]].",
      layout: () => ({ yaxis: { title: smallTitle("nats per token") } }),
      traces: (data) => [
        metricLine(data, "kl_static", "Static %{y:.4f} nats", { colour: "channels", dash: "dash" }),
        metricLine(data, "kl", "Policy %{y:.4f} nats", { colour: "accent" }),
      ],
    }),
    metricChart({
      title: "Held-out NLL", uses: ["nll", "nll_static", "nll_dense"],
      keys: [...QUALITY_KEYS("nll"), { id: "nll_dense", name: "Dense", colour: "muted", dash: "faint" }],
      aid: "How surprised the model is by unseen text. [[dense|Dense]] is the floor; what lies between static and dense can be [[recovered]].",
      layout: () => ({ yaxis: { title: smallTitle("nats per token") } }),
      traces: (data) => [
        metricLine(data, "nll_dense", "Dense %{y:.4f} nats", { colour: "muted", width: 1, dash: "dot" }),
        metricLine(data, "nll_static", "Static %{y:.4f} nats", { colour: "channels", dash: "dash" }),
        metricLine(data, "nll", "Policy %{y:.4f} nats", { colour: "accent" }),
      ],
    }),
    metricChart({
      title: "Reward and loss", isTwoScaled: true, uses: ["reward", "loss"],
      keys: [{ id: "reward", name: "Reward", colour: "good" },
        { id: "loss", name: "Loss", colour: "surprisal" }],
      aid: "[[reward|Reward]] of the sampled [[rollout|schedules]] should rise; the loss belongs to the phase that is running: [[warm start]] or [[grpo|GRPO]].",
      layout: () => ({ yaxis: { title: smallTitle("reward, nats per token") },
        yaxis2: { title: smallTitle("loss"), nticks: 5 } }),
      traces: (data) => [
        metricLine(data, "loss", "Loss %{y:.4f}", { colour: "surprisal", yaxis: "y2", width: 1.5 }),
        metricLine(data, "reward", "Reward %{y:.4f} nats", { colour: "good" }),
      ],
    }),
    metricChart({
      title: "Budget gap", uses: ["gap_keep", "gap_channels", "gap_bits"],
      keys: AXES.map((axis) => ({ id: `gap_${axis.limits}`, name: axis.name, colour: axis.key })),
      aid: "Mean spend minus [[budget]], in points of the axis (bits of 16). Inside the band of ±2 points it is on budget.",
      layout: (data) => ({ yaxis: { title: smallTitle("points"), zeroline: true,
        zerolinecolor: themeColour("edge") },
      shapes: [...phaseMarks(data), { type: "rect", xref: "paper", x0: 0, x1: 1, y0: -2, y1: 2,
        fillcolor: themeColour("good"), opacity: 0.1, line: { width: 0 }, layer: "below" }] }),
      traces: (data) => AXES.map((axis) => metricLine(data, `gap_${axis.limits}`,
        `${axis.name} %{y:+.2f} points`, { colour: axis.key, scale: 100 })),
    }),
    metricChart({
      title: "Exploration", isTwoScaled: true, uses: ["entropy", "clip_fraction"],
      keys: [{ id: "entropy", name: "Entropy", colour: "kl" },
        { id: "clip_fraction", name: "Clipped", colour: "surprisal" }],
      aid: "[[entropy|Entropy]]: how undecided the policy is, per axis. Clipped: actions whose change was cut; steadily above 30 % means too large steps.",
      layout: () => ({ yaxis: { title: smallTitle("nats"), rangemode: "tozero" },
        yaxis2: { title: smallTitle("clipped, %"), rangemode: "tozero", nticks: 5 } }),
      traces: (data) => [
        metricLine(data, "clip_fraction", "Clipped %{y:.1f} %", { colour: "surprisal", yaxis: "y2", scale: 100, width: 1.5 }),
        metricLine(data, "entropy", "Entropy %{y:.3f} nats", { colour: "kl" }),
      ],
    }),
    metricChart({
      title: "Speed", uses: ["decisions_per_s"],
      keys: [{ id: "decisions_per_s", name: "Decisions", colour: "attention" }],
      aid: "Actions taken or labelled per second, measured. Labelling and rollouts differ by nature.",
      layout: () => ({ yaxis: { title: smallTitle("decisions per second"), rangemode: "tozero" } }),
      traces: (data) => [metricLine(data, "decisions_per_s", "%{y:.0f} decisions/s", { colour: "attention" })],
    }),
  ];
}

const TRAIN_REDRAW_MS = 400;

export class TrainCharts {
  constructor() {
    this.charts = trainCharts();
    this.element = h("div", { class: "sol-figures is-train" }, this.charts.map((one) => one.element));
    redrawOnTheme(this.charts);
    this.clear(null);
  }

  clear(id) {
    this.data = new TrainSeries(id);
    clearTimeout(this.timer);
    this.timer = null;
    this.charts.forEach((chart) => chart.reset(this.dataFor(chart)));
  }

  // The same arrays; empty for a chart none of whose metrics has come yet.
  dataFor(chart) {
    return this.data.has(chart.spec.uses) ? this.data
      : { ...this.data, x: [], line: () => ({ x: [], y: [] }), phases: [] };
  }

  append(rows) {
    rows.forEach((row) => this.data.add(row));
    if (rows.length) this.timer ??= setTimeout(() => this.draw(), TRAIN_REDRAW_MS);
  }

  async draw() {
    this.timer = null;
    for (const chart of this.charts) {
      try {
        await chart.draw(this.dataFor(chart));
      } catch (error) {
        chart.fail(error.message);
      }
      await wait(0);
    }
  }
}
