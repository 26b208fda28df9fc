// The levels of a run's grid, by axis: their names, and a bar for each.

import { h } from "./dom.js";
import { AXES, count } from "./format.js";

export const LEAST_TOP = 0.001; // what the highest bar stands for at least

// The axes of a run's grid, each with its levels; null for a run that does not tell them.
/** @returns {GridAxis[] | null} */
export function gridLevels(run) {
  const grid = run?.config?.grid;
  const axes = AXES.map((axis) => ({ axis, levels: grid?.[axis.levels] }))
    .filter(({ levels }) => Array.isArray(levels));
  return axes.length ? axes : null;
}

export const levelBars = (shares, chosen) => shares.map((share, at) =>
  h("i", { class: at === chosen && "is-chosen", "--v": share }));

export const endsOf = (low, high) =>
  h("div", { class: "sol-level-ends", "aria-hidden": "true" }, h("span", {}, low), h("span", {}, high));

export function nearest(levels, value) {
  const away = levels.map((level) => Math.abs(level - value));
  return away.indexOf(Math.min(...away));
}

export const levelText = (axis, level) => axis.unit === "bit" ? count(level, "bit") : axis.show(level);
