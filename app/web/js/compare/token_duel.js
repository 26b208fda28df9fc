// The KL of every token of a challenge under two schedules, side by side.

import { h, setText } from "../shared/dom.js";
import { nats } from "../shared/format.js";
import { spokenText, tokenNodes } from "../shared/tokens/token_text.js";

const DUELLISTS = [["you", "You"], ["policy", "Policy"], ["static", "Static"]];

export class TokenDuel {
  // on: {enter(index), leave()}
  constructor(on) {
    this.on = on;
    this.bars = h("div", { class: "sol-duel-bars" });
    this.keys = h("span", { class: "sol-duel-keys" });
    this.top = h("span", { class: "sol-muted" });
    this.element = h("section", { class: "sol-panel sol-duel", "aria-label": "KL of every token" },
      h("header", {}, h("h2", {}, "KL of every token"), this.keys, this.top),
      h("div", { class: "sol-duel-place", tabindex: "0", role: "group", "aria-label": "Bars" }, this.bars));
    this.bars.addEventListener("pointerover", (event) => {
      const column = event.target.closest(".sol-duel-token");
      if (column) this.on.enter(column.solIndex);
    });
    this.bars.addEventListener("pointerleave", () => this.on.leave());
  }

  // Two schedules at most: yours and the policy's, before your first attempt static's instead.
  render(scores, tokens) {
    const shown = DUELLISTS.map(([name, label]) => ({ label, name,
      score: scores.find((one) => one.name === name) })).filter((one) => one.score).slice(0, 2);
    const top = Math.max(...shown.flatMap((one) => one.score.kls), 1e-9);
    this.keys.replaceChildren(...shown.map(({ name, label }) =>
      h("span", { "data-method": name }, h("i", { "aria-hidden": "true" }), label)));
    setText(this.top, `full height: ${nats(top)} nats`);
    this.bars.replaceChildren(...tokens.map((token, at) => {
      const values = shown.map(({ label, score }) => `${label} ${nats(score.kls[at])}`).join(", ");
      const column = h("div", { class: "sol-duel-token", role: "img",
        "aria-label": `${spokenText(token.text)}: ${values} nats` },
      h("div", { class: "sol-duel-pair" }, shown.map(({ name, score }) =>
        h("i", { "data-method": name, "--v": score.kls[at] / top }))),
      h("span", { class: "sol-duel-word" }, tokenNodes(token.text)));
      column.solIndex = at;
      return column;
    }));
  }

  mark(index) {
    this.marked?.classList.remove("is-marked");
    this.marked = index === null ? null : this.bars.children[index];
    this.marked?.classList.add("is-marked");
  }
}
