// Measured time per token by part, beside the computed saving of each.

import { h, setText } from "../dom.js";
import { count, fixed, isNumber, MISSING, percent } from "../format.js";

// key: of a token's `parts_ms`; bytes: of a cost.
export const PARTS = [
  { key: "attention", name: "Attention", bytes: "attention_bytes",
    title: "Computed as if heads that share keys chose the same pages; where they differ, more is read" },
  { key: "mlp", name: "MLP", bytes: "mlp_bytes" },
  { key: "head", name: "Head", bytes: "head_bytes" },
  { key: "policy", name: "Policy", bytes: "policy_bytes",
    title: "Choosing what each step may spend, under any schedule" },
  { key: "rest", name: "Rest", title: "Embedding, sampling, comparing rows" },
];

const milliseconds = (ms) => (isNumber(ms) ? `${ms.toFixed(ms < 10 ? 2 : 1)} ms` : MISSING);

export class PartTimes {
  constructor() {
    this.total = h("span", {}, MISSING);
    this.rows = h("span", { class: "sol-muted" });
    this.parts = PARTS.map((part) => {
      const one = {
        segment: h("i", { "data-part": part.key, "--v": 0 }),
        value: h("dd", {}, MISSING),
        share: h("dd", { class: "sol-part-share" }),
        note: h("span"),
      };
      one.element = h("div", { class: "sol-part-time", "data-part": part.key, title: part.title },
        h("dt", {}, part.name), one.value, one.share,
        h("dd", { class: "sol-part-note" }, h("span", { class: "sol-part-computed" }, "computed: "),
          one.note));
      return one;
    });
    this.bar = h("div", { class: "sol-part-bar", "aria-hidden": "true" },
      this.parts.map((part) => part.segment));
    this.element = h("section", { class: "sol-parts", "aria-label": "Measured time by part" },
      h("p", { class: "sol-parts-head" },
        h("span", {}, h("b", {}, "Measured"), " per token: ", this.total, this.rows),
        h("span", {}, h("b", {}, "Computed"), ": bytes saved against the full model")),
      this.bar, h("dl", { class: "sol-part-times" }, this.parts.map((part) => part.element)));
    this.clear();
  }

  clear() {
    setText(this.total, MISSING);
    setText(this.rows, "");
    this.bar.classList.add("is-empty");
    this.parts.forEach((part) => {
      setText(part.value, MISSING);
      setText(part.share, "");
      setText(part.note, MISSING);
    });
  }

  // timed: how many tokens have measured parts; sums: their milliseconds, in the order of PARTS.
  update({ timed, sums }, view, run) {
    if (!timed) {
      setText(this.total, "not recorded when this run was saved");
      return;
    }
    const whole = sums.reduce((sum, ms) => sum + ms, 0);
    const others = run.config.side_rows?.length ?? 0;
    setText(this.total, milliseconds(whole / timed));
    setText(this.rows, others ? `, with ${count(others, "more row")} in each step` : "");
    this.bar.classList.remove("is-empty");
    this.parts.forEach((part, at) => {
      part.segment.style.setProperty("--v", sums[at] / whole);
      setText(part.value, milliseconds(sums[at] / timed));
      setText(part.share, percent(sums[at] / whole));
      setText(part.note, savedText(PARTS[at], view.summary));
    });
  }
}

// Shares of the part's own bytes; of the policy's, which a dense step has not, of the whole step's.
function savedText(part, summary) {
  if (!part.bytes) return "not counted";
  if (!summary) return "at the end";
  const { cost, dense_cost: dense } = summary;
  const whole = part.key === "policy" ? dense.bytes_read : dense[part.bytes];
  if (!whole) return MISSING;
  const share = (dense[part.bytes] - cost[part.bytes]) / whole;
  if (Math.abs(share) < 0.0005) return "0 % saved";
  return `${percent(Math.abs(share), 1)} ${share < 0 ? "added" : "saved"}`;
}

// One token's parts in a line, for its card.
export function partsLine(row) {
  const name = (part) => (part.key === "mlp" ? part.name : part.key);
  return PARTS.map((part) => `${name(part)} ${fixed(row.parts_ms[part.key], 2)}`).join(", ");
}
