// A held-out text as the policy spends on it: the tokens of Explore, coloured and laned alike,
// with the older samples one step back, so that what was learnt can be seen.

import { chip, h, reachWhenScrolling, setText, show } from "../shared/dom.js";
import { actionOf, AXES, isNumber, mean, nats } from "../shared/format.js";
import { cardHead, cardLanes, TokenCard } from "../shared/tokens/card.js";
import { Legend } from "../shared/tokens/legend.js";
import { klAxis, TokenView } from "../shared/tokens/tokens.js";

const sampleRow = (token, at) => ({ index: at, text: String(token.text ?? ""), action: actionOf(token.action),
  kl_to_dense: token.kl ?? null });

function sampleCard(row) {
  return [cardHead(row, `step ${row.index + 1}`),
    h("div", { class: "sol-card-spend" }, cardLanes(row)),
    h("dl", { class: "sol-card-facts" }, h("dt", {}, "KL to the full model"),
      h("dd", {}, isNumber(row.kl_to_dense) ? `${nats(row.kl_to_dense)} nats` : "not measured"))];
}

export class SamplePanel {
  constructor(root) {
    const axes = [...AXES, klAxis("KL")];
    this.card = new TokenCard(root, sampleCard);
    this.tokens = new TokenView(axes, {
      enter: (index, token) => { this.card.show(this.tokens.rows[index], token); this.tokens.mark(index); },
      leave: () => this.card.hideSoon(),
    }, "Tokens of a held-out text");
    this.card.onHide = () => this.tokens.mark(null);
    this.legend = new Legend(axes, (axis) => this.tokens.setAxis(axis));
    this.about = h("p", { class: "sol-hint" });
    this.older = chip("‹ Older", () => this.go(-1), { "aria-label": "Older sample" });
    this.newer = chip("Newer ›", () => this.go(1), { "aria-label": "Newer sample" });
    this.empty = h("p", { class: "sol-empty-chart" },
      "A held-out text, coloured by what the policy spends on each token, appears here.");
    this.element = h("section", { class: "sol-panel sol-tokens sol-sample", "aria-label": "Sample" },
      this.legend.element,
      h("div", { class: "sol-token-place" }, this.tokens.element, this.empty),
      h("footer", { class: "sol-token-foot" }, this.about, this.older, this.newer));
    this.clear();
  }

  clear() {
    this.samples = [];
    this.at = -1;
    this.render();
  }

  // Stays at an older sample that is being looked at; otherwise shows the newest.
  take(samples) {
    const atEnd = this.at === this.samples.length - 1;
    const step = this.samples[this.at]?.step;
    this.samples = samples.filter((one) => Array.isArray(one.tokens));
    const kept = this.samples.findIndex((one) => one.step === step);
    this.at = atEnd || kept < 0 ? this.samples.length - 1 : kept;
    this.render();
  }

  go(by) {
    this.at = Math.min(Math.max(this.at + by, 0), this.samples.length - 1);
    this.render();
  }

  render() {
    const sample = this.samples[this.at];
    show(this.empty, !sample);
    this.older.disabled = this.at <= 0;
    this.newer.disabled = this.at >= this.samples.length - 1;
    this.card.hide();
    this.tokens.clear();
    this.tokens.lead.replaceChildren();
    setText(this.about, "");
    if (!sample) return;
    this.tokens.lead.replaceChildren(h("span", { class: "sol-lead-name" }, "Read in full before"),
      reachWhenScrolling(h("p", { class: "sol-lead-text", dir: "auto" }, tail(String(sample.context ?? ""))),
        "What was read before"));
    this.tokens.append(sample.tokens.filter((one) => one.action?.length === 3).map(sampleRow));
    this.element.querySelector(".sol-scroll").scrollTop = 0;
    setText(this.about, this.sentence(sample));
  }

  sentence(sample) {
    const spend = AXES.map((axis, at) => `${axis.noun} ${axis.show(mean(this.tokens.rows.map(axis.of)))} of `
      + axis.show(sample.budget?.[at])).join(", ");
    return `Report ${sample.step}: spent ${spend}. Sample ${this.at + 1} of ${this.samples.length}.`;
  }
}

// The end of a long context: what the first decode step continues.
function tail(text, length = 360) {
  return text.length > length ? `… ${text.slice(-length)}` : text;
}
