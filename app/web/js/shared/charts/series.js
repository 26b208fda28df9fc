// The charts' data: arrays over the tokens, extended row by row, and the two charts' traces.
// Token numbers on the x axis begin at 1, as on the card.

import { AXES, scheduleOf } from "../format.js";

// Explore names its rows as the engine does, Inspect as people do.
const ofDense = (name) => name.toLowerCase() === "dense";

export function emptySeries(run) {
  const { kind, asked } = scheduleOf(run);
  const isDense = kind === "dense";
  return {
    isDense,
    hasKl: false,
    ended: false,
    limit: run?.config?.max_new_tokens ?? 64,
    target: [asked[0], asked[1], asked[2] / 16],
    x: [],
    spent: [[], [], []],
    mean: [[], [], []],
    sums: [0, 0, 0],
    surprisal: [],
    kl: [],
    perplexity: [],
    sides: {},
    nllSum: 0,
  };
}

// While a long run streams, its lines are drawn through fewer points: of every few tokens the
// lowest and the highest, so that no peak is lost. Once it has ended, all points are drawn.
const LIVE_POINTS = 240;

function thinned(data, values) {
  const step = data.ended ? 1 : Math.ceil((2 * data.x.length) / LIVE_POINTS);
  if (step < 4) return { x: data.x, y: values };
  const kept = [];
  for (let from = 0; from < values.length; from += step) {
    let [low, high] = [from, from];
    for (let at = from; at < Math.min(from + step, values.length); at += 1) {
      if (values[at] < values[low]) low = at;
      if (values[at] > values[high]) high = at;
    }
    kept.push(Math.min(low, high), Math.max(low, high));
  }
  if (kept.at(-1) !== values.length - 1) kept.push(values.length - 1);
  return { x: kept.map((at) => data.x[at]), y: kept.map((at) => values[at]) };
}

export function extendSeries(data, row) {
  data.x.push(row.index + 1);
  const seen = data.x.length;
  AXES.forEach((axis, at) => {
    const share = 100 * axis.share(axis.of(row));
    data.sums[at] += share;
    data.spent[at].push(share);
    data.mean[at].push(data.sums[at] / seen);
  });
  data.surprisal.push(row.surprisal);
  data.kl.push(row.kl_to_dense);
  data.hasKl ||= row.kl_to_dense !== null;
  data.nllSum += row.surprisal ?? 0;
  data.perplexity.push(Math.exp(data.nllSum / seen));
  for (const side of row.side) {
    const own = (data.sides[side.name] ??= { sum: 0, perplexity: [] });
    own.sum += side.surprisal ?? 0;
    own.perplexity.push(Math.exp(own.sum / seen));
  }
}

// The x range while streaming: the next power of two, so that it rarely moves.
function tokenRange(data) {
  const seen = data.x.length;
  if (data.ended) return [0.5, Math.max(seen, 2) + 0.5];
  const room = Math.max(32, 2 ** Math.ceil(Math.log2(seen * 1.02 + 1)));
  return [0.5, Math.max(Math.min(room, data.limit), 2) + 0.5];
}

const tokenAxis = (data) => ({
  range: tokenRange(data), unifiedhovertitle: { text: "Token %{x}" }, title: { text: "token", font: { size: 11 }, standoff: 4 },
});

export const spendChart = {
  title: "Spend against budget",
  empty: "The running mean of each axis appears here, beside the budget you asked for.",
  keys: [
    ...AXES.map((axis) => ({ id: axis.key, name: axis.name, colour: axis.key })),
    { id: "target", name: "Budget", colour: "muted", dash: "dash" },
    { id: "steps", name: "Each step", colour: "muted", dash: "faint" },
  ],
  layout: (data) => ({
    uirevision: data.id ?? "spend",
    datarevision: data.x.length,
    xaxis: tokenAxis(data),
    yaxis: { range: [0, 104], tickvals: [0, 25, 50, 75, 100],
      ticktext: ["0", "25", "50", "75", "100 %"] },
  }),
  traces: (data, colour) => [
    ...AXES.map((axis, at) => ({
      meta: "steps", ...thinned(data, data.spent[at]), mode: "lines", opacity: 0.28,
      line: { color: colour(axis.key), width: 1, shape: "hvh" }, hoverinfo: "skip",
    })),
    ...AXES.map((axis, at) => ({
      meta: "target", x: [0.5, Math.max(data.limit, data.x.length) + 0.5],
      y: [100 * data.target[at], 100 * data.target[at]], mode: "lines", hoverinfo: "skip",
      line: { color: colour(axis.key), width: 1.5, dash: "dash" },
    })),
    ...AXES.map((axis, at) => ({ axis, line: thinned(data, data.mean[at]) })).map(({ axis, line }) => ({
      meta: axis.key, ...line, mode: "lines",
      line: { color: colour(axis.key), width: 2.5 },
      customdata: line.y.map((share) => (axis.key === "bits" ? share * 0.16 : share)),
      hovertemplate: `${axis.name} %{customdata:.1f}${axis.key === "bits" ? " bit" : " %"}`
        + " so far<extra></extra>",
    })),
  ],
};

// The mean of the first few tokens jumps about; it does not set the scale of all that follows.
const UNSETTLED = 64;

function perplexityTop(data) {
  const lines = [data.perplexity, ...Object.values(data.sides).map((side) => side.perplexity)];
  const from = Math.min(UNSETTLED, data.x.length >> 2);
  let top = 1;
  lines.forEach((line) => {
    for (let at = from; at < line.length; at += 1) if (line[at] > top) top = line[at];
  });
  return 1.08 * top;
}

export const qualityChart = {
  title: "Quality",
  empty: "Surprisal, running perplexity and KL to dense appear here.",
  keys: [
    { id: "surprisal", name: "Surprisal", colour: "surprisal", dash: "faint" },
    { id: "kl", name: "KL to dense", colour: "kl", dash: "bars" },
    { id: "perplexity", name: "Perplexity", colour: "perplexity" },
    { id: "side", name: "of other rows", colour: "perplexity", dash: "dash" },
  ],
  layout: (data) => ({
    uirevision: data.id ?? "quality",
    datarevision: data.x.length,
    xaxis: tokenAxis(data),
    yaxis: { rangemode: "tozero", title: { text: "nats", font: { size: 11 }, standoff: 4 } },
    yaxis2: { range: [0, perplexityTop(data)], nticks: 5,
      title: { text: "perplexity", font: { size: 11 }, standoff: 6 } },
  }),
  traces: (data, colour) => [
    { meta: "kl", ...thinned(data, data.kl), mode: "lines", fill: "tozeroy",
      hovertemplate: "KL to dense %{y:.3f} nats<extra></extra>",
      line: { color: colour("kl"), width: 1, shape: "hvh" } },
    { meta: "surprisal", ...thinned(data, data.surprisal), mode: "lines",
      hovertemplate: "Surprisal %{y:.3f} nats<extra></extra>",
      opacity: 0.75, line: { color: colour("surprisal"), width: 1 } },
    { meta: "perplexity", ...thinned(data, data.perplexity), yaxis: "y2", mode: "lines",
      hovertemplate: "Perplexity %{y:.2f} so far<extra></extra>",
      line: { color: colour("perplexity"), width: 2 } },
    ...Object.entries(data.sides).map(([name, side]) => ({
      meta: "side", ...thinned(data, side.perplexity), yaxis: "y2", mode: "lines",
      hovertemplate: `Perplexity of the ${name} row %{y:.2f}<extra></extra>`,
      line: { color: colour(ofDense(name) ? "perplexity" : "bits"), width: 1.5, dash: ofDense(name) ? "dot" : "dash" },
    })),
  ],
};
