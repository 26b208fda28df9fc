// The difficulty report: spend by kind of token, what it goes along with, tokens that stand out.

import { h, setChildren, setText, show } from "../shared/dom.js";
import { AXES, fixed, nats, percent, signed } from "../shared/format.js";
import { dataTable } from "../shared/page_parts.js";
import { spokenText, tokenNodes } from "../shared/tokens/token_text.js";
import { AXIS_TERMS, rowName } from "./inspect_rows.js";

export class Difficulty {
  constructor(go) {
    this.go = go;
    this.place = h("div", { class: "sol-difficulty-parts" });
    this.head = h("span", { class: "sol-muted" });
    const title = "Difficulty report";
    this.element = h("section", { class: "sol-panel sol-difficulty", hidden: true, "aria-label": title },
      h("header", {}, h("h2", {}, title), this.head), this.place);
  }

  // report: as Python gives it at the end, or null; at: the row on show, 0 for dense.
  draw(report, names = [], at = 0) {
    show(this.element, Boolean(report));
    if (!report) return;
    const row = report.rows[at - 1];
    setText(this.head, row ? `Under ${rowName(names[at])}, measured. Earlier savings add to later losses.`
      : "The full model spends the same everywhere. Choose another schedule above.");
    setChildren(this.place,
      row && this.kinds(row), row && this.correlation(row),
      this.list("Least confident", "The full model gave these tokens the least probability.",
        report.least_confident, (one) => `surprisal ${fixed(one.nll, 1)} nats`,
        (one) => `entropy ${fixed(one.entropy, 1)} nats`),
      row && this.list("Under-served", "Lost more than rounding noise against the full model.",
        row.under_served, (one) => `lost ${fixed(one.loss, 2)} nats`,
        (one) => `spent ${percent(one.spend)}, KL ${nats(one.kl)}`, "No loss beyond rounding noise."),
      row && this.list("Over-served", "Another schedule spent less here and stayed with the full model.",
        row.over_served, (one) => `${percent(one.spend)} against ${percent(one.cheaper_spend)}`,
        (one) => `${rowName(one.cheaper)}, KL ${nats(one.cheaper_kl)}`,
        "No token was over-served."));
  }

  kinds(row) {
    const title = "Spend by kind of token";
    const columns = ["Kind of [[token]]", "Tokens", ...AXIS_TERMS, "[[kl|KL]]",
      "Lost vs [[dense|full model]]"];
    const spent = (kind, { key, short, fraction, unit }) => h("span", { "data-axis": key },
      h("span", { class: "sol-meter", "--v": fraction(kind[short]), "aria-hidden": "true" }),
      unit === "bit" ? fixed(kind[short], 1) : percent(kind[short]));
    return h("section", { class: "sol-difficulty-kinds" }, h("h3", {}, title),
      dataTable(title, columns, row.kinds.map((kind) => [kind.kind, kind.tokens.toLocaleString("en"),
        ...AXES.map((axis) => spent(kind, axis)), nats(kind.kl), signed(kind.loss)])));
  }

  correlation(row) {
    const title = "Spend goes along with";
    return h("section", {}, h("h3", {}, title),
      dataTable(title, ["Spend", "[[surprisal|Surprisal]]", "[[entropy|Entropy]]"],
        AXES.map(({ short, name }) => [name,
          ...["surprisal", "entropy"].map((of) => signed(row.correlation[short][of], 2))])),
      h("p", { class: "sol-hint" }, "Rank correlation: 1 is always together, 0 not at all."));
  }

  list(title, meaning, entries, first, second, none) {
    return h("section", { class: "sol-difficulty-list" }, h("h3", {}, title),
      h("p", { class: "sol-hint" }, entries.length ? meaning : none),
      h("ol", {}, entries.map((one) => h("li", {}, h("button", { type: "button",
        class: "sol-difficulty-entry", onclick: () => this.go(one.index),
        "aria-label": `Token ${one.index + 1}: ${spokenText(one.text)}. ${first(one)}, ${second(one)}` },
      h("span", { class: "sol-difficulty-token" }, tokenNodes(one.text)),
      h("span", {}, first(one)), h("span", { class: "sol-muted" }, `token ${one.index + 1}`),
      h("span", { class: "sol-muted" }, second(one)))))));
  }
}
