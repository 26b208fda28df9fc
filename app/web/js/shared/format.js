// Numbers as people read them. A missing number is an en dash.

import { SITE } from "./dom.js";

export const MISSING = "–";
export const ZONE_TOKENS = 40; // the zones of compute were chosen on so many (docs/results.md)
export const ZONES_RIGHT = "5 times in 6"; // on texts that they were not chosen on (docs/results.md)

/** @returns {value is number} */
export const isNumber = (value) => typeof value === "number" && Number.isFinite(value);

// Of the numbers among the values; NaN without any.
export function mean(values) {
  const known = (values ?? []).filter(isNumber);
  return known.reduce((sum, value) => sum + value, 0) / known.length;
}

export const fixed = (value, digits) => (isNumber(value) ? value.toFixed(digits) : MISSING);
export const percent = (share, digits = 0) =>
  (isNumber(share) ? `${(100 * share).toFixed(digits).replace("-", "−")} %` : MISSING);
export const percentTight = (share) => (isNumber(share) ? `${+(100 * share).toFixed(1)} %` : MISSING);
export const bitsText = (bits) => (isNumber(bits) ? `${+bits.toFixed(2)}` : MISSING);

export function nats(value) {
  if (!isNumber(value)) return MISSING;
  if (value !== 0 && Math.abs(value) < 0.0005) return value < 0 ? "−<0.001" : "<0.001";
  return value.toFixed(3).replace("-", "−");
}

export function signed(value, digits = 3) {
  if (!isNumber(value)) return MISSING;
  const text = Math.abs(value).toFixed(digits);
  return Number(text) === 0 ? text : `${value < 0 ? "−" : "+"}${text}`;
}

export function probability(value) {
  if (!isNumber(value)) return MISSING;
  if (value > 0 && value < 0.001) return "<0.1 %";
  return `${(100 * value).toFixed(value < 0.1 ? 1 : 0)} %`;
}

const TIE = 1.1; // of a word's probability: who has less more than it comes first by chance

/** Whether the more probable of two words is first by chance. @param {number} value @param {number} other */
export const isTie = (value, other) => value < TIE * other;

/** Of a token, by its surprisal. @param {number | null} surprisal */
export const probabilityOf = (surprisal) => (surprisal === null ? NaN : Math.exp(-surprisal));

/** @param {number | null} one @param {number | null} other */
export const difference = (one, other) => (one === null || other === null ? null : one - other);

export function quantity(value, unit) {
  if (!isNumber(value)) return MISSING;
  /** @type {[number, string][]} */
  const steps = [[1e12, "T"], [1e9, "G"], [1e6, "M"], [1e3, "k"]];
  const [size, letter] = steps.find(([least]) => value >= least) ?? [1, ""];
  return `${(value / size).toPrecision(3)} ${letter}${unit}`;
}

export function duration(ms) {
  if (!isNumber(ms)) return MISSING;
  return ms < 1000 ? `${ms.toFixed(ms < 10 ? 1 : 0)} ms` : `${(ms / 1000).toFixed(1)} s`;
}

// "about 3 min", "about 2 h": an estimate deserves no seconds.
export function roughly(seconds) {
  if (!isNumber(seconds)) return MISSING;
  if (seconds < 50) return `${Math.max(5, 5 * Math.round(seconds / 5))} s`;
  if (seconds < 5400) return `${Math.max(1, Math.round(seconds / 60))} min`;
  return `${(seconds / 3600).toFixed(seconds < 36_000 ? 1 : 0)} h`;
}

export const count = (value, word) => `${value.toLocaleString("en")} ${word}${value === 1 ? "" : "s"}`;
export const sentence = (text) => text[0].toUpperCase() + text.slice(1);

// The time of day, with the date unless it is today.
export function whenText(iso) {
  const moment = new Date(iso);
  const today = new Date().toDateString() === moment.toDateString();
  return moment.toLocaleString([], { timeStyle: "short", dateStyle: today ? undefined : "medium" });
}

// A local folder or GGUF file is shown by its last part; a Hub id or a built-in name as it is.
export function modelName(name) {
  if (!/^([/~.]|[A-Za-z]:[\\/])|\.gguf$/i.test(name)) return name;
  return name.split(/[\\/]/).filter(Boolean).pop().replace(/\.gguf$/i, "");
}

// Of a run. A budget in bytes has a share of the full model's, and asks nothing of the axes that it decides.
export function scheduleOf(run) {
  const { kind, budget } = run?.config?.schedule ?? {};
  const share = (kind !== "dense" && budget?.bytes_share) || null;
  const asked = AXES.map((axis) => (kind === "dense" ? axis.dense
    : !budget || (share && axis.unit === "%") ? NaN : budget[axis.field] ?? axis.dense));
  return { kind: kind ?? "static", policy: run?.config?.schedule?.policy ?? null, asked, share };
}

export function scheduleLabel(kind, policy) {
  const name = kind === "painted" ? "Painted" : SITE.schedules[kind] ?? kind;
  return policy === "default" ? "Default policy" : policy ? `${name} ${modelName(policy)}` : name;
}

// Whether a policy left these steps to the static mix.
export const isLeftToStatic = (run, rows) => scheduleOf(run).kind === "policy" && rows.length > 0
  && !rows.at(-1)?.policy;

/** Name of a run's schedule, and whether static took its tokens. @param {Token[]} [rows] */
export const scheduleName = (run, rows = []) => scheduleLabel(scheduleOf(run).kind, scheduleOf(run).policy)
  + (isLeftToStatic(run, rows) ? ": static here" : "");

export const MECHANISMS = { default: "Default: 4-bit keys", paper: "Paper: page bounds" };

// Pages of the prompt that no step of a run could read; "" where all were there.
export function leftOutText(run) {
  const pages = run?.config?.left_out ?? [];
  return pages.length ? `without page ${pages.map((page) => page + 1).join(", ")}` : "";
}

// Names of a run's mechanisms. Runs of before there was a choice do not tell theirs.
export function mechanismsOf(run) {
  const { page_scorer: scorer = "quest", page_choice: choice = "head", mlp_pruning: pruning = "input",
    page_budget: budget = "count" } = run?.config?.grid ?? {};
  const how = `${scorer} ${choice} ${pruning} ${budget}`;
  if (how === "int4 group both count") return "Former: so many pages per KV group";
  const name = { "int4 group both need": "default", "quest head input count": "paper" }[how];
  return name ? MECHANISMS[name] : `Own: ${scorer}, ${choice}, ${pruning}`;
}

// As Python declares them (sol_core/actions/action.py). A run of before there was an axis was dense there.
/** @type {SpendAxis[]} */
export const AXES = SITE.axes.map((axis) => ({ ...axis, of: (row) => row.action[axis.field] ?? axis.dense,
  fraction: (value) => value / axis.dense, show: axis.unit === "%" ? percentTight : bitsText,
  low: axis.min / axis.scale, high: axis.max / axis.scale }));

/** An action from its values in the order of the axes. @param {number[]} values @returns {Action} */
export const actionOf = ([keep_fraction, channel_keep_ratio, bit_width]) =>
  ({ keep_fraction, channel_keep_ratio, bit_width });

// A form's numbers of a spend, by axis: "50 % attention · 70 % MLP · 8 bits".
export const spendText = (numbers) => AXES.map(({ noun, unit }, at) =>
  `${bitsText(numbers[at])} ${unit === "%" ? "% " : ""}${noun}`).join(" · ");

// A spend beside its budget, whose words it leaves out: "30.0 % · 45.0 % · 6.0 bits". values: by axis.
export function spentText(values) {
  if (!values.every(isNumber)) return MISSING;
  return AXES.map(({ scale, unit }, at) =>
    `${(scale * values[at]).toFixed(1)} ${unit === "%" ? "%" : "bits"}`).join(" · ");
}

export const formNumbers = (values) => AXES.map(({ scale }, at) => +(scale * values[at]).toFixed(2));

export const spendOf = (row) => spendText(formNumbers(AXES.map((axis) => axis.of(row))));

// Largest held-out gap that training measured, in points of a share; null without any.
export function largestGap(measured) {
  const gaps = AXES.map((axis) => measured[`gap_${axis.short}`]).filter(isNumber);
  return gaps.length ? 100 * Math.max(...gaps.map(Math.abs)) : null;
}

// The axes of a run's grid, each with its levels; null for a run that does not tell them.
/** @returns {GridAxis[] | null} */
export function gridLevels(run) {
  const grid = run?.config?.grid;
  const axes = AXES.map((axis) => ({ axis, levels: grid?.[axis.levels] }))
    .filter(({ levels }) => Array.isArray(levels));
  return axes.length ? axes : null;
}

export function nearest(levels, value) {
  const away = levels.map((level) => Math.abs(level - value));
  return away.indexOf(Math.min(...away));
}

export const levelText = (axis, level) => axis.unit === "bit" ? count(level, "bit") : axis.show(level);
