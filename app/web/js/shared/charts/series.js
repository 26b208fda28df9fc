// The charts' data: arrays over the tokens, whose numbers begin at 1 as on the card.

import { AXES, isNumber, scheduleOf } from "../format.js";
import { SITE } from "../dom.js";
import { choiceKept } from "../tokens/tokens.js";

export const OWN = "own"; // among the rows that score the text: the run's own

export function emptySeries(run) {
  const { kind, asked } = scheduleOf(run);
  const isDense = kind === "dense";
  return {
    isDense, hasKl: false, hasChoice: false, ended: false, limit: run?.config?.max_new_tokens ?? 64,
    target: AXES.map((axis, at) => axis.share(asked[at])), x: [],
    spent: AXES.map(() => []), mean: AXES.map(() => []), sums: AXES.map(() => 0),
    surprisal: [], kl: [], klMean: [], rows: {},
    other: { x: [], kl: [], kept: [] }, // tokens that dense would not choose, and the share kept so far
    klSum: 0, measured: 0, keptSum: 0, compared: 0,
  };
}

// While a long run streams, of every few tokens the lowest and highest are drawn, so that no peak is lost.
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
  extendDense(data, row);
  for (const { name, surprisal } of [{ name: OWN, surprisal: row.surprisal }, ...row.side]) {
    const own = (data.rows[name] ??= { sum: 0, mean: [] });
    own.sum += surprisal ?? 0;
    own.mean.push(own.sum / seen);
  }
}

// Against the full model: only over the tokens where dense was measured, or its choice is known.
function extendDense(data, row) {
  data.kl.push(row.kl_to_dense);
  if (isNumber(row.kl_to_dense)) {
    data.hasKl = true;
    data.klSum += row.kl_to_dense;
    data.measured += 1;
  }
  data.klMean.push(data.measured ? data.klSum / data.measured : null);
  const isKept = choiceKept(row);
  if (isKept !== null) {
    data.hasChoice = true;
    data.keptSum += Number(isKept);
    data.compared += 1;
  }
  if (isKept !== false) return;
  data.other.x.push(row.index + 1);
  data.other.kl.push(row.kl_to_dense ?? 0);
  data.other.kept.push((100 * data.keptSum) / data.compared);
}

// The x range while streaming: the next power of two, so that it rarely moves.
function tokenRange(data) {
  const seen = data.x.length;
  if (data.ended) return [0.5, Math.max(seen, 2) + 0.5];
  const room = Math.max(32, 2 ** Math.ceil(Math.log2(seen * 1.02 + 1)));
  return [0.5, Math.max(Math.min(room, data.limit), 2) + 0.5];
}

const axisTitle = (text) => ({ text, font: { size: 11 }, standoff: 4 });
const tokenAxis = (data) => ({
  range: tokenRange(data), unifiedhovertitle: { text: "Token %{x}" }, title: axisTitle("token"),
});

export const spendChart = {
  title: "Spend against budget",
  empty: "The running mean of each axis appears here, beside the budget you asked for.",
  keys: [
    ...AXES.map((axis) => ({ id: axis.key, name: axis.name, colour: axis.key })),
    { id: "target", name: "Budget", colour: "muted", dash: "dash" },
    { id: "steps", name: "Each step", colour: "muted", dash: "faint" },
  ],
  layout: (data) => ({ uirevision: data.id ?? "spend", datarevision: data.x.length, xaxis: tokenAxis(data),
    yaxis: { range: [0, 104], tickvals: [0, 25, 50, 75, 100], ticktext: ["0", "25", "50", "75", "100 %"] } }),
  traces: (data, colour) => [
    ...AXES.map((axis, at) => ({ meta: "steps", ...thinned(data, data.spent[at]), mode: "lines",
      opacity: 0.28, line: { color: colour(axis.key), width: 1, shape: "hvh" }, hoverinfo: "skip" })),
    ...AXES.map((axis, at) => ({ meta: "target", x: [0.5, Math.max(data.limit, data.x.length) + 0.5],
      y: [100 * data.target[at], 100 * data.target[at]], mode: "lines", hoverinfo: "skip",
      line: { color: colour(axis.key), width: 1.5, dash: "dash" } })),
    ...AXES.map((axis, at) => {
      const line = thinned(data, data.mean[at]);
      const isBits = axis.unit === "bit";
      return { meta: axis.key, ...line, mode: "lines", line: { color: colour(axis.key), width: 2.5 },
        customdata: line.y.map((share) => (isBits ? share * axis.dense / 100 : share)),
        hovertemplate: `${axis.name} %{customdata:.1f} ${isBits ? "bit" : "%"} so far<extra></extra>` };
    }),
  ],
};

// The effect of a run's compute on quality, in views of one chart. The first one compares like with like: the
// run's step and dense's at the same place of the same text. Surprisal scores a text that one row wrote.

// A row's line among the keys. Rows of a generation have the kind of their schedule as their name, those of
// an inspection its label.
const keyOf = (name) => (name === OWN ? OWN
  : ["dense", "static"].find((kind) => kind === name || SITE.schedules[kind] === name) ?? "side");

// The rows that score a text, as keys of the chart: line: their dashes.
const ROWS = [
  { id: OWN, name: "This run, so far", colour: "text", width: 2 },
  { id: "dense", name: "Full model", colour: "text", dash: "dots", line: "dot" },
  { id: "static", name: "Static", colour: "channels", dash: "dash", line: "dash" },
  { id: "side", name: "Other rows", colour: "bits", dash: "dash", line: "dash" },
].map((row) => ({ ...row,
  isKnown: (data) => row.id === OWN || Object.keys(data.rows).some((name) => keyOf(name) === row.id) }));

// view: {name, isScore: somebody's text is scored, keys, unit, traces(data, colour)}
/** @param {string} id @param {any} view @returns {any} */
const viewOf = (id, { unit, ...view }) => ({
  id, title: "Quality", empty: "How far the run strays from the full model appears here.", ...view,
  layout: (data) => ({ uirevision: `${data.id ?? "quality"}-${id}`, datarevision: data.x.length,
    xaxis: tokenAxis(data), yaxis: { rangemode: "tozero", title: axisTitle(unit) } }),
});

const againstDense = viewOf("dense", {
  name: "Against the full model",
  keys: [
    { id: "kl", name: "KL to the full model", colour: "kl", dash: "bars" },
    { id: "klMean", name: "Mean so far", colour: "kl" },
    { id: "other", name: "Not the full model's choice", colour: "text", dash: "dots",
      isKnown: (data) => data.hasChoice },
  ],
  unit: "KL, nats",
  traces: (data, colour) => [
    { meta: "kl", ...thinned(data, data.kl), mode: "lines", fill: "tozeroy", opacity: 0.7,
      hovertemplate: "KL to the full model %{y:.3f} nats<extra></extra>",
      line: { color: colour("kl"), width: 0.5, shape: "hvh" } },
    { meta: "klMean", ...thinned(data, data.klMean), mode: "lines",
      hovertemplate: "KL to the full model %{y:.3f} nats so far, on average<extra></extra>",
      line: { color: colour("kl"), width: 2.5 } },
    // A dot on a token's own KL, if another token than dense's comes first.
    data.hasChoice && { meta: "other", x: data.other.x, y: data.other.kl, customdata: data.other.kept,
      mode: "markers", hovertemplate: "Not the full model's choice, which was kept %{customdata:.1f} % "
        + "of the time so far<extra></extra>",
      marker: { color: colour("text"), size: 7 } },
  ].filter(Boolean),
});

function scoreLine(data, colour, name) {
  const row = ROWS.find(({ id }) => id === keyOf(name));
  const whose = name === OWN ? "" : ` of the ${name} row`;
  return { meta: row?.id, ...thinned(data, data.rows[name].mean), mode: "lines",
    hovertemplate: `Mean surprisal${whose} %{y:.2f} so far<extra></extra>`,
    line: { color: colour(row?.colour), width: row?.width ?? 1.5, dash: row?.line } };
}

const surprisal = viewOf("surprisal", {
  name: "Surprisal", isScore: true,
  keys: [{ id: "surprisal", name: "Each token", colour: "surprisal", dash: "faint" }, ...ROWS],
  unit: "surprisal, nats",
  traces: (data, colour) => [
    { meta: "surprisal", ...thinned(data, data.surprisal), mode: "lines", opacity: 0.75,
      hovertemplate: "Surprisal %{y:.3f} nats<extra></extra>",
      line: { color: colour("surprisal"), width: 1 } },
    ...Object.keys(data.rows).map((name) => scoreLine(data, colour, name)),
  ],
});

export const QUALITY_VIEWS = [againstDense, surprisal];
