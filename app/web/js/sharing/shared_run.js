// The exported run: what happened, token by token, with the page's own parts and nothing to wait for.

import { Charts } from "../shared/charts/charts.js";
import { h, setText } from "../shared/dom.js";
import { leadParts, selectionText } from "../shared/page_parts.js";
import { Status } from "../shared/runs/status.js";
import { cardParts, TokenCard } from "../shared/tokens/card.js";
import { gridLevels } from "../shared/tokens/card_policy.js";
import { Legend } from "../shared/tokens/legend.js";
import { colourAxes, TokenView } from "../shared/tokens/tokens.js";
import { SHARED_HINT, sharedHead, sharedSettings, sharedView } from "./shared_parts.js";
import { SvgChart } from "./svg_chart.js";

class SharedRun {
  constructor(root, view) {
    this.view = view;
    const { run, rows } = view;
    const axes = colourAxes();
    this.status = new Status({ retry() {}, backToLive() {} });
    this.card = new TokenCard(root, (row) => cardParts(row, gridLevels(run)));
    this.tokens = new TokenView(axes, {
      enter: (index, token) => this.enter(index, token), leave: () => this.card.hideSoon(),
      select: (range) => this.select(range), pick() {},
    });
    this.card.onHide = () => this.mark(null);
    const on = { hover: (index) => this.mark(index, true), leave: () => this.mark(null) };
    this.charts = new Charts(SvgChart, on, "[[kl|KL]] was not measured: no dense row rode along.");
    this.summary = h("p", { class: "sol-selection", "aria-live": "polite" });
    const legend = new Legend(axes, (axis) => this.tokens.setAxis(axis));
    root.append(sharedHead(run), h("div", { class: "sol-stage" }, this.status.element,
      h("section", { class: "sol-panel sol-tokens", "aria-label": "Tokens" }, legend.element,
        h("div", { class: "sol-token-place" }, this.tokens.element),
        h("footer", { class: "sol-token-foot" }, this.summary)),
      h("div", { class: "sol-charts" }, this.charts.all.map((chart) => chart.element)),
      sharedSettings(run)));
    this.tokens.lead.append(...leadParts(run));
    this.tokens.append(rows);
    this.tokens.element.scrollTop = 0;
    this.status.add(rows);
    this.status.update(view, run, null);
    this.charts.clear(run);
    this.charts.append(rows);
    this.charts.finish();
    this.select(null);
    addEventListener("keydown", (event) => event.key === "Escape" && this.select(null));
  }

  enter(index, token) {
    this.card.show(this.tokens.rows[index], token);
    this.mark(index);
  }

  mark(index, bringIntoView = false) {
    this.tokens.mark(index, bringIntoView);
    this.charts.mark(index);
  }

  select(range) {
    this.tokens.select(range);
    this.charts.setSelection(range);
    setText(this.summary, range ? selectionText(this.tokens.rows, range) : SHARED_HINT);
  }
}

new SharedRun(document.querySelector("main"), await sharedView());
