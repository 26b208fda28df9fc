// One axis of the lens, as lines over its levels, which the arrow keys walk as the pointer does.

import { h, svg } from "../dom.js";
import { isNumber, nats, probability } from "../format.js";
import { levelEnds, levelText, nearest } from "../tokens/card.js";
import { spokenText, tokenNodes } from "../tokens/token_text.js";
import { choiceRanges } from "./lens_tables.js";

const LANES = [
  { key: "kl", name: "KL to the full model", of: (row) => row.kl },
  { key: "surprisal", name: "Surprisal", of: (row) => row.nll },
];

// The scale that the plots share, so that their curves compare: lowest and highest per lane.
export function lensScale(view) {
  const rows = [view.dense, ...view.axes.flat()];
  const scale = Object.fromEntries(LANES.map((lane) => {
    const values = rows.map(lane.of).filter(isNumber);
    return [lane.key, [Math.min(...values), Math.max(...values, 1e-3)]];
  }));
  scale.kl[0] = 0;
  return scale;
}

export class LevelPlot {
  // levels: of the grid; rows: one per level; shares: the policy's probabilities or null.
  constructor(axis, levels, rows, shares, { taken, dense, scale, top }) {
    this.axis = axis;
    this.levels = levels;
    this.rows = rows;
    this.shares = shares;
    this.dense = dense;
    this.taken = nearest(levels, taken.action[axis.field]);
    this.mark = h("i", { class: "sol-lens-mark", "aria-hidden": "true" });
    this.readout = h("p", { class: "sol-lens-readout" });
    const at = `${(100 * (this.taken + 0.5)) / levels.length}%`;
    this.plot = h("div", { class: "sol-lens-plot", tabindex: "0", role: "slider",
      "aria-label": `${axis.title}: every level at this step`, "aria-valuemin": 1,
      "aria-valuemax": levels.length,
      onpointermove: (event) => this.point(event), onpointerleave: () => this.show(this.taken),
      onkeydown: (event) => this.onKey(event), onblur: () => this.show(this.taken) },
    h("i", { class: "sol-lens-taken", "aria-hidden": "true", "--x": at }), this.mark,
    this.choices(taken), LANES.map((lane) => this.lane(lane, scale[lane.key])), shares && this.bars(top));
    this.element = h("div", { class: "sol-lens-axis", "data-axis": axis.key },
      h("h3", {}, axis.title, h("small", {}, `taken: ${levelText(axis, levels[this.taken])}`)),
      this.plot,
      levelEnds(axis, levels),
      this.readout);
    this.show(this.taken);
  }

  choices(taken) {
    return h("div", { class: "sol-lens-strip", "data-lane": "choice", "aria-hidden": "true" },
      choiceRanges(this.rows, taken).map(({ from, to, choice, isOther }) => h("span", { class: isOther && "is-other",
        "--n": to - from + 1, title: choice.text }, tokenNodes(choice.text))));
  }

  lane(lane, [low, high]) {
    const y = (value) => 92 - (84 * (value - low)) / (high - low || 1);
    const x = (place) => (100 * (place + 0.5)) / this.levels.length;
    const points = this.rows.map((row, place) => `${x(place).toFixed(2)} ${y(lane.of(row)).toFixed(2)}`);
    const line = points.join("L");
    const base = y(lane.of(this.dense)).toFixed(2);
    const drawing = svg("svg", { viewBox: "0 0 100 100", preserveAspectRatio: "none", "aria-hidden": "true" },
    svg("path", { class: "sol-lens-dense", d: `M0 ${base}H100` }),
    lane.key === "kl" && svg("path", { class: "sol-lens-fill",
      d: `M${x(0)} ${y(low)}L${line}L${x(points.length - 1)} ${y(low)}Z` }),
    svg("path", { class: "sol-lens-line", d: `M${line}` }),
    svg("path", { class: "sol-lens-dots", d: points.map((point) => `M${point}h0`).join("") }),
    svg("path", { class: "sol-lens-dot", d: `M${points[this.taken]}h0` }));
    return h("div", { class: "sol-lens-lane", "data-lane": lane.key },
      h("span", {}, lane.name),
      h("span", {}, `${lane.key === "kl" ? "" : `${nats(low)} to `}${nats(high)} nats`), drawing);
  }

  // top: the most probable level of all axes fills the height.
  bars(top) {
    return h("div", { class: "sol-lens-lane is-bars", "data-lane": "policy" },
      h("span", {}, "Policy"), h("span", {}, `up to ${probability(top)}`),
      h("div", { class: "sol-lens-bars", "aria-hidden": "true" }, this.shares.map((share, at) =>
        h("i", { class: at === this.taken && "is-chosen", "--v": share / top }))));
  }

  point(event) {
    const box = this.plot.getBoundingClientRect();
    this.show(Math.floor((this.levels.length * (event.clientX - box.left)) / box.width));
  }

  onKey(event) {
    const steps = { ArrowRight: 1, ArrowUp: 1, ArrowLeft: -1, ArrowDown: -1 };
    const goal = { Home: 0, End: this.levels.length - 1 }[event.key]
      ?? (event.key in steps ? this.at + steps[event.key] : null);
    if (goal === null) return;
    event.preventDefault();
    this.show(goal);
  }

  show(wanted) {
    const at = this.at = Math.min(Math.max(wanted, 0), this.levels.length - 1);
    const row = this.rows[at];
    this.mark.style.setProperty("--x", `${(100 * (at + 0.5)) / this.levels.length}%`);
    const parts = [`KL ${nats(row.kl)}`, `surprisal ${nats(row.nll)}`];
    if (this.shares) parts.push(`policy ${probability(this.shares[at])}`);
    const level = `${levelText(this.axis, this.levels[at])}${at === this.taken ? " (taken)" : ""}`;
    this.mark.classList.toggle("is-taken", at === this.taken);
    const { choice } = row;
    this.readout.replaceChildren(h("b", {}, level), ...choice ? [h("span", {}, "→ ", h("b", {}, tokenNodes(choice.text)))] : [],
      ...parts.map((part) => h("span", {}, part)));
    if (choice) parts.push(`would choose ${spokenText(choice.text).trim()}`);
    this.plot.setAttribute("aria-valuenow", at + 1);
    this.plot.setAttribute("aria-valuetext", `${level}: ${parts.join(", ")}`);
  }
}
