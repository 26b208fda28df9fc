// The effect of a run's compute on quality, in views of one chart. The first one compares like with like: the run's
// step and dense's at the same place of the same text. Surprisal scores a text that one row wrote.

import { OWN, thinned, tokenAxis } from "./series.js";
import { SITE } from "../site.js";

// A row's line among the keys. Explore names its rows as the engine does, Inspect as people do.
// Rows of a generation have the kind of their schedule as their name, those of an inspection its label.
const keyOf = (name) => (name === OWN ? OWN
  : ["dense", "static"].find((kind) => kind === name || SITE.schedules[kind] === name) ?? "side");

const LINES = {
  [OWN]: (colour) => ({ color: colour("perplexity"), width: 2 }),
  dense: (colour) => ({ color: colour("text"), width: 1.5, dash: "dot" }),
  static: (colour) => ({ color: colour("channels"), width: 1.5, dash: "dash" }),
  side: (colour) => ({ color: colour("bits"), width: 1.5, dash: "dash" }),
};

const scaleTitle = (text) => ({ text, font: { size: 11 }, standoff: 4 });

// view: {name, isScore: somebody's text is scored, keys, unit, traces(data, colour)}
/** @param {string} id @param {any} view @returns {any} */
const viewOf = (id, { unit, ...view }) => ({
  id, title: "Quality", empty: "How far the run strays from the full model appears here.", ...view,
  layout: (data) => ({ uirevision: `${data.id ?? "quality"}-${id}`, datarevision: data.x.length,
    xaxis: tokenAxis(data), yaxis: { rangemode: "tozero", title: scaleTitle(unit) } }),
});

const againstDense = viewOf("dense", {
  name: "Against the full model",
  keys: [
    { id: "kl", name: "KL to the full model", colour: "kl", dash: "bars" },
    { id: "klMean", name: "Mean so far", colour: "kl" },
    { id: "other", name: "Not the full model's choice", colour: "perplexity", dash: "dots", isKnown: (data) => data.hasChoice },
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
    data.hasChoice && { meta: "other", x: data.other.x, y: data.other.kl, customdata: data.other.kept, mode: "markers",
      hovertemplate: "Not the full model's choice, which was kept %{customdata:.1f} % of the time so far<extra></extra>",
      marker: { color: colour("perplexity"), size: 7 } },
  ].filter(Boolean),
});

// The run's own row, and those beside it that score the same text.
function scoreLines(data, colour) {
  return Object.entries(data.rows).map(([name, row]) => ({
    meta: keyOf(name), ...thinned(data, row.mean), mode: "lines",
    hovertemplate: `Mean surprisal${name === OWN ? "" : ` of the ${name} row`} %{y:.2f} so far<extra></extra>`,
    line: LINES[keyOf(name)](colour),
  }));
}

const has = (id) => (data) => Object.keys(data.rows).some((name) => keyOf(name) === id);
const SCORE_KEYS = [
  { id: OWN, name: "This run, so far", colour: "perplexity" },
  { id: "dense", name: "Full model", colour: "text", dash: "dots", isKnown: has("dense") },
  { id: "static", name: "Static", colour: "channels", dash: "dash", isKnown: has("static") },
  { id: "side", name: "Other rows", colour: "bits", dash: "dash", isKnown: has("side") },
];

const surprisal = viewOf("surprisal", {
  name: "Surprisal", isScore: true,
  keys: [{ id: "surprisal", name: "Each token", colour: "surprisal", dash: "faint" }, ...SCORE_KEYS],
  unit: "surprisal, nats",
  traces: (data, colour) => [
    { meta: "surprisal", ...thinned(data, data.surprisal), mode: "lines", opacity: 0.75,
      hovertemplate: "Surprisal %{y:.3f} nats<extra></extra>", line: { color: colour("surprisal"), width: 1 } },
    ...scoreLines(data, colour),
  ],
});

export const QUALITY_VIEWS = [againstDense, surprisal];
