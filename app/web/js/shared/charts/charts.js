// The live charts: what each axis spent against its budget, and what that did to quality, over a run's rows,
// by the numbers of its tokens, which begin at 1 as on the card.

import { chip, drawInTurn, h, selectOf, setText, show, SITE } from "../dom.js";
import { fixed, isNumber, scheduleOf } from "../format.js";
import { memory } from "../memory.js";
import { selectionText } from "../page_parts.js";
import { Reading } from "../tokens/reading.js";
import { TokenStage } from "../tokens/token_stage.js";
import { choiceKept, shareOfBytes } from "../tokens/token_view.js";
import { LiveCharts } from "./chart.js";
import { SvgChart } from "./svg_chart.js";

const OWN = "own"; // among the rows that score the text: the run's own

// missing: said where KL was not measured.
function emptySeries(run, missing) {
  const { kind, share } = scheduleOf(run);
  return { x: [], rows: /** @type {Token[]} */ ([]), ended: false, isDense: kind === "dense", missing,
    limit: run?.config?.max_new_tokens ?? 64, target: kind === "dense" ? 1 : share };
}

function means(values) {
  let [sum, known] = [0, 0];
  return values.map((value) => {
    if (isNumber(value)) [sum, known] = [sum + value, known + 1];
    return known ? sum / known : null;
  });
}

const spendChart = {
  title: "Compute against budget",
  keys: [
    { id: "mean", name: "Compute so far", colour: "accent" },
    { id: "target", name: "Budget", colour: "muted", dash: "dash",
      isKnown: ({ target }) => isNumber(target) },
    { id: "steps", name: "Each step", colour: "accent", dash: "faint" },
  ],
  scale: { range: [0, 104], grows: true,
    ticks: [0, 25, 50, 75, 100], texts: ["0", "25", "50", "75", "100 %"] },
  lines: ({ x, rows, limit, target }) => {
    const each = rows.map((row) => 100 * shareOfBytes(row));
    return [
      { id: "steps", x, y: each, colour: "accent", opacity: 0.35, width: 1, isStepped: true,
        say: (share) => `Compute ${fixed(share, 1)} %${share > 100 ? ", with what choosing reads" : ""}` },
      ...(isNumber(target) ? [{ id: "target", x: [0.5, Math.max(limit, x.length) + 0.5],
        y: [100 * target, 100 * target], colour: "muted", width: 1.5, dash: "dash" }] : []),
      { id: "mean", x, y: means(each), colour: "accent", width: 2.5,
        say: (share) => `${fixed(share, 1)} % so far` },
    ];
  },
};

const namesOf = ({ rows }) => [OWN, ...new Set(rows.flatMap((row) => row.side.map(({ name }) => name)))];

// Rows of a generation are named by the kind of their schedule, those of an inspection by its label.
const keyOf = (name) => (name === OWN ? OWN
  : ["dense", "static"].find((kind) => kind === name || SITE.schedules[kind] === name) ?? "side");

// The rows that score a text, by their keys in the chart; line: their dashes.
const ROWS = {
  [OWN]: { name: "This run, so far", colour: "text", width: 2 },
  dense: { name: "Full model", colour: "text", dash: "dots", line: "dot" },
  static: { name: "Static", colour: "channels", dash: "dash", line: "dash" },
  side: { name: "Other rows", colour: "bits", dash: "dash", line: "dash" },
};
const ROW_KEYS = Object.entries(ROWS).map(([id, row]) =>
  ({ id, ...row, isKnown: (data) => namesOf(data).some((name) => keyOf(name) === id) }));

const againstDense = {
  id: "dense", title: "Quality", name: "Against the full model", scale: { title: "KL, nats" },
  isKnown: ({ rows }) => rows.some((row) => isNumber(row.kl_to_dense)),
  empty: ({ isDense, missing }) =>
    (isDense ? "The full model is its own reference: its [[kl|KL]] is zero." : missing),
  keys: [
    { id: "kl", name: "KL to the full model", colour: "kl", dash: "bars" },
    { id: "klMean", name: "Mean so far", colour: "kl" },
    { id: "other", name: "Not the full model's choice", colour: "text", dash: "dots",
      isKnown: ({ rows }) => rows.some((row) => choiceKept(row) !== null) },
  ],
  lines: ({ x, rows }) => {
    const kl = rows.map((row) => row.kl_to_dense);
    const kept = rows.map(choiceKept);
    const keptShares = means(kept.map((isKept) => (isKept === null ? null : 100 * Number(isKept))));
    const others = kept.flatMap((isKept, at) => (isKept === false ? [at] : []));
    return [
      { id: "kl", x, y: kl, colour: "kl", width: 0.5, opacity: 0.7, isFilled: true, isStepped: true,
        say: (value) => `KL to the full model ${fixed(value, 3)} nats` },
      { id: "klMean", x, y: means(kl), colour: "kl", width: 2.5,
        say: (value) => `KL to the full model ${fixed(value, 3)} nats so far, on average` },
      // A dot on a token's own KL, if another token than dense's comes first.
      { id: "other", x: others.map((at) => x[at]), y: others.map((at) => kl[at] ?? 0), colour: "text",
        dot: 3.5, say: (_, at) => "Not the full model's choice, which was kept "
          + `${fixed(keptShares[others[at]], 1)} % of the time so far` },
    ];
  },
};

function scoreLine({ x, rows }, name) {
  const id = keyOf(name);
  const { colour, width = 1.5, line } = ROWS[id];
  const whose = name === OWN ? "" : ` of the ${name} row`;
  const own = (row) => (name === OWN ? row : row.side.find((one) => one.name === name));
  return { id, x, y: means(rows.map((row) => own(row)?.surprisal)), colour, width, dash: line,
    say: (value) => `Mean surprisal${whose} ${fixed(value, 2)} so far` };
}

const surprisal = {
  id: "surprisal", title: "Quality", name: "Surprisal", isScore: true, scale: { title: "surprisal, nats" },
  empty: againstDense.empty,
  keys: [{ id: "surprisal", name: "Each token", colour: "surprisal", dash: "faint" }, ...ROW_KEYS],
  lines: (data) => [
    { id: "surprisal", x: data.x, y: data.rows.map((row) => row.surprisal), colour: "surprisal", width: 1,
      opacity: 0.75, say: (value) => `Surprisal ${fixed(value, 3)} nats` },
    ...namesOf(data).map((name) => scoreLine(data, name)),
  ],
};

const QUALITY_VIEWS = [againstDense, surprisal];

const VIEW = "qualityView";

export class Charts extends LiveCharts {
  // on: as of an SvgChart; missing: said where KL was not measured; scored: whose text surprisal scores.
  constructor(on, { scored = "All rows score the text that this run wrote, which favours its own row.",
    missing = "Turn on “Check against the full model” to measure [[kl|KL]]." }) {
    const [spend, quality] = [spendChart, QUALITY_VIEWS[0]].map((spec) => new SvgChart(spec, on));
    super([spend, quality], "sol-charts");
    this.live = [spend, quality];
    this.quality = quality;
    this.missing = missing;
    this.choice = selectOf(QUALITY_VIEWS.map(({ id, name }) => [id, name]), { class: "sol-input is-head",
      "aria-label": "Quality: measure", onchange: () => this.choose(this.choice.value) });
    quality.legend.before(this.choice);
    setText(quality.note, scored);
    this.clear(null);
    this.choose(memory.get(VIEW));
  }

  clear(run) {
    this.reset(emptySeries(run, this.missing));
  }

  append(rows) {
    this.data.x.push(...rows.map((row) => row.index + 1));
    this.data.rows.push(...rows);
    this.drawSoon();
  }

  finish() {
    this.data.ended = true;
    clearTimeout(this.timer);
    this.draw();
  }

  choose(id) {
    const view = QUALITY_VIEWS.find((one) => one.id === id) ?? QUALITY_VIEWS[0];
    this.choice.value = view.id;
    memory.set(VIEW, view.id);
    this.quality.setSpec(view);
    show(this.quality.note, view.isScore);
  }

  mark(index) {
    drawInTurn(this, () => this.live.forEach((chart) => chart.mark(index)));
  }

  setSelection(range) {
    this.live.forEach((chart) => chart.setSelection(range));
  }
}

export class ChartedStage extends TokenStage {
  readAt = 0; // number of the text whose reads are on show

  // hint: the foot's words while nothing is selected; words: as of Charts.
  constructor(root, axes, on, { hint, colourKey, ...words }) {
    super(root, axes, on, colourKey);
    this.hint = hint;
    const inText = { mark: (index) => this.mark(index, true), select: (range) => this.select(range) };
    this.charts = new Charts(inText, words);
    this.reading = new Reading({ ...inText, effects: on.effects,
      rows: () => this.rows(this.readAt), elements: () => this.elements(this.readAt) });
    this.summary = h("p", { class: "sol-selection", "aria-live": "polite" }, hint);
    this.unselect = chip("Clear selection", () => this.select(null), { hidden: true });
    addEventListener("keydown", (event) => {
      if (event.key === "Escape" && this.card.element.hidden && this.selected) this.select(null);
    });
  }

  buildFoot(tools) {
    return h("footer", { class: "sol-token-foot" }, this.summary, this.unselect, tools);
  }

  clear() {
    this.picked = [null, 0];
    this.resting = null;
    this.card.hide();
    this.reading.clear();
    this.charts.clear(null);
    this.select(null);
  }

  mark(index, bringIntoView = false, at = 0) {
    super.mark(index, bringIntoView, at);
    this.reading.mark(index);
    this.charts.mark(index);
  }

  select(range) {
    super.select(range);
    if (String(range) !== String(this.selected ?? null)) this.charts.setSelection(range);
    this.selected = range;
    setText(this.summary, range ? selectionText(this.rows(), range) : this.hint);
    show(this.unselect, range !== null);
  }
}
