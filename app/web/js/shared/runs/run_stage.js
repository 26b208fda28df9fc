// A generation on show: its status, the machine, tokens and charts.

import { h } from "../dom.js";
import { Machine } from "../machine/machine.js";
import { leadParts } from "../page_parts.js";
import { gridLevels } from "../tokens/card_policy.js";
import { TokenStage } from "../tokens/token_stage.js";
import { colourAxes, klAxis, TokenView } from "../tokens/tokens.js";

const isMeasured = (run) => Boolean(run.config.side_rows?.some((row) => row.name === "dense"));

export class RunStage extends TokenStage {
  /** @param {import("./status.js").Status} status */
  constructor(root, status, on, options) {
    super(root, [...colourAxes(), klAxis("KL to dense")], on, options);
    this.status = status;
    this.machine = new Machine({ rows: () => this.view.rows, mark: (index) => this.step(index) });
    this.card.spared = this.machine.element;
  }

  makeView(axes) {
    return new TokenView(axes, {
      enter: (index, token) => this.enter(index, token), leave: () => this.card.hideSoon(),
      select: (range) => this.select(range), pick: (index) => this.on.pick?.(index),
      span: (span) => this.legend?.showSpan(span),
    });
  }

  rows() {
    return this.view.rows;
  }

  mark(index, bringIntoView = false) {
    super.mark(index, bringIntoView);
    this.machine.mark(index);
  }

  // To a token by the machine's buttons; the arrow keys in the text go on from there.
  step(index) {
    this.mark(index, true);
    this.view.makeCurrent(index);
  }

  // over: lies over the panel; tools: for the foot; below: panels under the tokens and under the charts.
  build({ over = null, tools = null, below = [null, null] } = {}) {
    return h("div", { class: "sol-stage" }, this.status.element, this.machine.element,
      h("section", { class: "sol-panel sol-tokens", "aria-label": "Tokens" }, over, this.legend.element,
        h("div", { class: "sol-token-place" }, this.view.element), this.buildFoot(tools)),
      below[0], this.status.numbers, this.buildCharts(), below[1]);
  }

  clear() {
    this.card.hide();
    this.view.clear();
    this.view.lead.replaceChildren();
    this.status.clear();
    this.charts.clear(null);
    this.select(null);
    this.machine.clear();
  }

  begin(run) {
    this.levels = gridLevels(run);
    this.machine.begin(run);
    this.charts.clear(run);
    this.charts.data.id = run.id;
    this.view.lead.replaceChildren(...leadParts(run));
    this.legend.allow("kl", isMeasured(run), "Dense was not measured beside this run");
  }

  append(rows) {
    this.view.append(rows);
    this.status.add(rows);
    this.charts.append(rows);
    this.machine.follow();
  }
}
