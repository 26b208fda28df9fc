// The part of the card that shows what the policy wanted: the probability of every level, per
// axis. All rows have one scale, so a flat row means a policy that had no preference.

import { h } from "../dom.js";
import { AXES, count, probability } from "../format.js";

export const LEAST_TOP = 0.001; // what the highest bar stands for at least
const SPOKEN_FROM = 0.01; // levels less probable than this are not read out

// The axes of a run's grid, each with its levels; null for a run that does not tell them.
/** @returns {GridAxis[] | null} */
export function gridLevels(run) {
  const grid = run?.config?.grid;
  const axes = AXES.map((axis) => ({ axis, levels: grid?.[axis.levels] })).filter(({ levels }) => Array.isArray(levels));
  return axes.length ? axes : null;
}

// Whether a token has the policy's probabilities of these levels.
export const isOfPolicy = (row, axes) => row.policy && axes?.length === row.policy.length
  && row.policy.every((one, at) => one.length === axes[at].levels.length);

// null for rows of other schedules, and for runs of before distributions were kept.
export function cardPolicy(row, axes) {
  if (!isOfPolicy(row, axes)) return null;
  const top = Math.max(...row.policy.flat(), LEAST_TOP);
  return h("div", { class: "sol-card-policy" },
    h("div", { class: "sol-card-caption" }, "The policy's probabilities",
      h("small", {}, `full height: ${probability(top)}`)),
    h("div", { class: "sol-level-rows" }, axes.map(({ axis, levels }, at) =>
      levelRow(axis, levels, row.policy[at], axis.of(row), top))));
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
