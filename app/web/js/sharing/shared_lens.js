// The exported lens: the token in its text, and the panel as it was open, with nothing left to ask.

import { rowName, rowNames, rowOf } from "../inspect/inspect_rows.js";
import { h, setText, show } from "../shared/dom.js";
import { count } from "../shared/format.js";
import { LensPanel } from "../shared/lens/lens.js";
import { leadParts } from "../shared/page_parts.js";
import { cardParts, TokenCard } from "../shared/tokens/card.js";
import { gridLevels } from "../shared/tokens/card_policy.js";
import { Legend } from "../shared/tokens/legend.js";
import { colourAxes, TokenView } from "../shared/tokens/tokens.js";
import { sharedHead, sharedSettings, sharedView } from "./shared_parts.js";

class SharedLens extends LensPanel {
  constructor(view) {
    super(async (name) => (name === "look_at_token" ? view.lens : { rows: view.plane.rows }), { close() {} });
    this.grid = view.plane;
    this.tools.remove();
    setText(this.joint.querySelector("summary small"), "attention × channels");
    this.joint.open = Boolean(view.plane);
  }

  bitChoices() {
    return this.grid ? [this.grid.bits] : [];
  }
}

class SharedLensPage {
  constructor(root, view) {
    const { run, row } = view;
    this.rows = row === null ? view.rows : view.rows.map((token) => rowOf(token, row));
    this.card = new TokenCard(root, (one) => cardParts(one, gridLevels(run)));
    const axes = colourAxes();
    this.tokens = new TokenView(axes, {
      enter: (at, token) => { this.card.show(this.rows[at], token); this.tokens.mark(at); },
      leave: () => this.card.hideSoon(), span: (span) => this.legend?.showSpan(span),
    }, "Tokens around this one");
    this.card.onHide = () => this.tokens.mark(null);
    this.panel = new SharedLens(view);
    this.legend = new Legend(axes, (axis) => this.tokens.setAxis(axis), "axis",
      (isStretched) => this.tokens.spanColours(isStretched));
    root.append(sharedHead(run), h("div", { class: "sol-stage" },
      h("section", { class: "sol-panel sol-tokens sol-shared-around", "aria-label": "Tokens" }, this.legend.element,
        h("div", { class: "sol-token-place" }, this.tokens.element),
        h("footer", { class: "sol-token-foot" }, h("p", { class: "sol-selection" }, this.foot(view)))),
      this.panel.element, sharedSettings(run)));
    const before = this.rows[0].index;
    if (before > 0) this.tokens.lead.append(h("span", { class: "sol-lead-name" }, `${count(before, "token")} before`));
    else if (row === null) this.tokens.lead.append(...leadParts(run));
    else show(this.tokens.lead, false);
    this.tokens.append(this.rows);
    const at = view.lens.index - before;
    this.tokens.pick(at);
    this.tokens.makeCurrent(at);
    this.tokens.element.scrollTop = 0;
    this.tokens.reveal(this.tokens.elements[at]);
    // The panel counts tokens from the run's first one.
    const all = [];
    this.rows.forEach((one) => { all[one.index] = one; });
    this.panel.open(run, false, all, view.lens.index);
  }

  foot({ run, row, lens }) {
    const which = row === null ? "" : ` under ${rowName(rowNames(run)[row])}`;
    return `Token ${lens.index + 1}${which}, and what stood around it. Hover a token, or use the arrow keys.`;
  }
}

new SharedLensPage(document.querySelector("main"), await sharedView());
