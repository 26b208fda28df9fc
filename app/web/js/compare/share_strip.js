// The result to show around: a coloured square per token, without a word of the text or a level of the
// schedule, so that who sees it can still play.

import { h, setText, show } from "../shared/dom.js";
import { percent } from "../shared/format.js";
import { copyChip } from "../shared/page_parts.js";

const A_LINE = 16; // squares
const SQUARES = { both: ["🟦", "closer than policy and static"], one: ["🟨", "closer than one of them"], none: ["⬜", "closer than neither"] };

// What a token's KL is closer than, of policy's and static's.
function kindsOf(you, policy, even) {
  return you.kls.map((kl, at) => ["none", "one", "both"][Number(kl < policy.kls[at]) + Number(kl < even.kls[at])]);
}

const scoreText = (you, best) => (you.kl < best ? `Won: ${percent(1 - you.kl / best)} less KL than the better of policy and static`
  : `Not won: ${percent(you.kl / best - 1)} more KL than the better of policy and static`);

export class ShareStrip {
  constructor() {
    this.title = "";
    this.squares = h("div", { class: "sol-share-squares", role: "img" });
    this.legend = h("p", { class: "sol-hint" });
    this.copy = copyChip("Copy the squares", () => this.text);
    this.element = h("div", { class: "sol-share", hidden: true }, this.squares, h("div", { class: "sol-share-side" }, this.legend, this.copy));
  }

  // scores: by rows of the table; hidden until there is one of the visitor's own.
  update(scores) {
    const [you, policy, even] = ["you", "policy", "static"].map((name) => scores.find((one) => one.name === name));
    show(this.element, Boolean(you));
    if (!you) return;
    const kinds = kindsOf(you, policy, even);
    const lines = [];
    for (let at = 0; at < kinds.length; at += A_LINE) lines.push(kinds.slice(at, at + A_LINE).map((kind) => SQUARES[kind][0]).join(""));
    this.text = ["Beat the policy", this.title, scoreText(you, Math.min(policy.kl, even.kl)), ...lines].filter(Boolean).join("\n");
    const said = Object.entries(SQUARES).map(([kind, [, words]]) => `${kinds.filter((one) => one === kind).length} ${words}`).join(", ");
    this.squares.setAttribute("aria-label", `Of ${kinds.length} tokens: ${said}`);
    this.squares.replaceChildren(...kinds.map((kind) => h("i", { "data-kind": kind })));
    setText(this.legend, `${said}. No word and no level is in it.`);
  }
}
