// Tokens, their card, charts and selection, tied together. Whoever has the rows feeds a stage: a page,
// an exported file.

import { Charts } from "../charts/charts.js";
import { chip, h, setText, show } from "../dom.js";
import { selectionText } from "../page_parts.js";
import { cardParts, TokenCard } from "./card.js";
import { Legend } from "./legend.js";

export class TokenStage {
  /** Of the grid of the run on show. @type {GridAxis[] | null} */
  levels = null;

  // on: pick(index, at) where a lens is, colour(key) where it is kept; hint: the foot's words while nothing is
  // selected; ChartKind: the class that draws a chart; colourKey: under which the browser keeps the
  // colour; missing: the charts' words where KL was not measured; scored: whose text is scored.
  constructor(root, axes, on, { hint, ChartKind, colourKey = "axis", ...words }) {
    this.on = on;
    this.hint = hint;
    this.view = this.makeView(axes);
    this.card = this.makeCard(root);
    this.charts = new Charts(ChartKind, {
      hover: (index) => this.mark(index, true), leave: () => this.mark(null),
      select: (range) => this.select(this.within(range)),
    }, words);
    this.card.onHide = () => this.mark(null);
    this.legend = new Legend(axes, (axis, isChosen) => {
      this.view.setAxis(axis);
      if (isChosen) on.colour?.(axis.key);
    }, colourKey);
    this.summary = h("p", { class: "sol-selection", "aria-live": "polite" }, hint);
    this.unselect = chip("Clear selection", () => this.select(null), { hidden: true });
    addEventListener("keydown", (event) => {
      if (event.key === "Escape" && this.card.element.hidden && this.view.range) this.select(null);
    });
  }

  /** A TokenView, or what acts alike. @returns {any} */
  makeView(axes) {}

  makeCard(root) {
    return new TokenCard(root, (row) => cardParts(row, this.levels));
  }

  /** The tokens on show, of one of several texts. @returns {Token[]} */
  rows(at) {
    return [];
  }

  buildFoot(tools) {
    return h("footer", { class: "sol-token-foot" }, this.summary, this.unselect, tools);
  }

  buildCharts() {
    return h("div", { class: "sol-charts" }, this.charts.all.map((chart) => chart.element));
  }

  enter(index, token, at) {
    this.card.show(this.rows(at)[index], token);
    this.mark(index);
  }

  mark(index, bringIntoView = false) {
    this.view.mark(index, bringIntoView);
    this.charts.mark(index);
  }

  within(range) {
    if (range === null) return null;
    const clipped = [Math.max(range[0], 0), Math.min(range[1], this.rows().length - 1)];
    return clipped[0] <= clipped[1] ? clipped : null;
  }

  select(range) {
    this.view.select(range);
    if (String(range) !== String(this.selected ?? null)) this.charts.setSelection(range);
    this.selected = range;
    setText(this.summary, range ? selectionText(this.rows(), range) : this.hint);
    show(this.unselect, range !== null);
  }
}
