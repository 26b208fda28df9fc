// The exported lens: the token in its text, and the panel as it was open, with nothing left to ask.

import { rowName, rowNames, rowOf } from "../inspect/inspect_rows.js";
import { h, pageElement, setText, show } from "../shared/dom.js";
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

function showLens(root, view) {
  const { run, row } = view;
  const rows = row === null ? view.rows : view.rows.map((token) => rowOf(token, row));
  const card = new TokenCard(root, (one) => cardParts(one, gridLevels(run)));
  const axes = colourAxes();
  const tokens = new TokenView(axes, {
    enter: (at, token) => { card.show(rows[at], token); tokens.mark(at); },
    leave: () => card.hideSoon(),
  }, "Tokens around this one");
  card.onHide = () => tokens.mark(null);
  const panel = new SharedLens(view);
  const legend = new Legend(axes, (axis) => tokens.setAxis(axis), "axis",
    (isStretched) => tokens.spanColours(isStretched));
  tokens.on.span = (span) => legend.showSpan(span);
  const which = row === null ? "" : ` under ${rowName(rowNames(run)[row])}`;
  const foot = `Token ${view.lens.index + 1}${which}, and what stood around it. Hover a token, or use the arrow keys.`;
  root.append(sharedHead(run), h("div", { class: "sol-stage" },
    h("section", { class: "sol-panel sol-tokens sol-shared-around", "aria-label": "Tokens" }, legend.element,
      h("div", { class: "sol-token-place" }, tokens.element),
      h("footer", { class: "sol-token-foot" }, h("p", { class: "sol-selection" }, foot))),
    panel.element, sharedSettings(run)));
  const before = rows[0].index;
  if (before > 0) tokens.lead.append(h("span", { class: "sol-lead-name" }, `${count(before, "token")} before`));
  else if (row === null) tokens.lead.append(...leadParts(run));
  else show(tokens.lead, false);
  tokens.append(rows);
  const at = view.lens.index - before;
  tokens.pick(at);
  tokens.makeCurrent(at);
  tokens.element.scrollTop = 0;
  tokens.reveal(tokens.elements[at]);
  // The panel counts tokens from the run's first one.
  const all = [];
  rows.forEach((one) => { all[one.index] = one; });
  panel.open(run, false, all, view.lens.index);
}

showLens(pageElement("main"), await sharedView());
