// The part of the card that shows what the policy wanted: the probability of every level, per
// axis. All three rows have one scale, so a flat row means a policy that had no preference.

import { h } from "../dom.js";
import { AXES, count, probability } from "../format.js";

export const LEAST_TOP = 0.001; // what the highest bar stands for at least
const SPOKEN_FROM = 0.01; // levels less probable than this are not read out

// The levels of a run's grid in the order of AXES; null for a run that does not tell them.
export function gridLevels(run) {
  const grid = run?.config?.grid;
  const levels = AXES.map((axis) => grid?.[axis.levels]);
  return levels.every(Array.isArray) ? levels : null;
}

// null for rows of other schedules, and for runs of before distributions were kept.
export function cardPolicy(row, levels) {
  const fits = row.policy && levels && row.policy.every((one, at) => one.length === levels[at].length);
  if (!fits) return null;
  const top = Math.max(...row.policy.flat(), LEAST_TOP);
  return h("div", { class: "sol-card-policy" },
    h("div", { class: "sol-card-caption" }, "The policy's probabilities",
      h("small", {}, `full height: ${probability(top)}`)),
    h("div", { class: "sol-level-rows" }, AXES.map((axis, at) =>
      levelRow(axis, levels[at], row.policy[at], axis.of(row), top))));
}

function levelRow(axis, levels, shares, value, top) {
  const chosen = nearest(levels, value);
  return h("div", { class: "sol-level-row", "data-axis": axis.key, role: "img",
    "aria-label": spokenLevels(axis, levels, shares, chosen) },
  h("span", { class: "sol-name" }, axis.name),
  h("span", { class: "sol-value" }, h("strong", {}, levelText(axis, levels[chosen])),
    h("span", { class: "sol-muted" }, ` at ${probability(shares[chosen])}`)),
  h("div", { class: "sol-levels" }, levels.map((level, at) => h("i", {
    class: at === chosen && "is-chosen", "--v": shares[at] / top,
    title: `${levelText(axis, level)}: ${probability(shares[at])}`,
  }))),
  h("div", { class: "sol-level-ends" }, h("span", {}, levelText(axis, levels[0])),
    h("span", {}, levelText(axis, levels.at(-1)))));
}

export function nearest(levels, value) {
  const away = levels.map((level) => Math.abs(level - value));
  return away.indexOf(Math.min(...away));
}

export function levelText(axis, level) {
  return axis.unit === "bit" ? count(level, "bit") : axis.show(level);
}

function spokenLevels(axis, levels, shares, chosen) {
  const others = levels.map((level, at) => [level, shares[at], at])
    .filter(([, share, at]) => at !== chosen && share >= SPOKEN_FROM)
    .map(([level, share]) => `${levelText(axis, level)} at ${probability(share)}`);
  const taken = `${axis.name}: ${levelText(axis, levels[chosen])} taken, `
    + `at ${probability(shares[chosen])}`;
  return others.length ? `${taken}; ${others.join(", ")}.` : `${taken}.`;
}
