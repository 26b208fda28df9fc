// The schedules side by side in numbers: what the text cost under each, and what each spent. Sums
// grow with the tokens; the page never goes through all of them again.

import { h, headRow, show } from "../shared/dom.js";
import { AXES, fixed, MISSING, nats, percent, signed } from "../shared/format.js";
import { glossed } from "../shared/glossary.js";
import { rowName, STATIC, totalCost } from "./inspect_rows.js";

export class Totals {
  constructor() {
    this.sums = []; // of each schedule
    this.count = 0;
    this.body = h("tbody", {});
    this.columns = ["[[schedule|Schedule]]", "[[nll|NLL]]", "[[perplexity|Perplexity]]", "vs [[dense]]", "vs [[static]]",
      "[[kl|KL]]", ...AXES.map((axis) => `[[${axis.term}|${axis.name}]]`), "Bytes saved"];
    this.element = h("div", { class: "sol-table-scroll", tabindex: "0", role: "group",
      "aria-label": "Schedules compared", hidden: true },
    h("table", { class: "sol-inspect-table" }, headRow(this.columns.map((name) => glossed(name))), this.body));
  }

  clear(names = []) {
    this.count = 0;
    this.sums = names.map((name) => ({ name, nll: 0, kl: 0, bytes: 0, spend: AXES.map(() => 0) }));
    show(this.element, names.length > 0);
    if (names.length) this.draw();
  }

  add(tokens) {
    this.count += tokens.length;
    for (const token of tokens) {
      token.rows.forEach((row, at) => {
        const sum = this.sums[at];
        sum.nll += row.nll;
        sum.kl += row.kl;
        sum.bytes += totalCost(row.cost).bytes_read;
        AXES.forEach((axis, place) => { sum.spend[place] += axis.of(row); });
      });
    }
  }

  draw() {
    const mean = (value) => value / this.count;
    const even = this.sums.find((sum) => sum.name === STATIC);
    const dense = this.sums[0];
    this.body.replaceChildren(...this.sums.map((sum, at) => {
      const cells = [
        nats(mean(sum.nll)), fixed(Math.exp(mean(sum.nll)), 2),
        at ? signed(mean(sum.nll - dense.nll)) : MISSING,
        even && sum !== even ? signed(mean(sum.nll - even.nll)) : MISSING,
        at ? nats(mean(sum.kl)) : MISSING,
        ...AXES.map((axis, place) => (axis.unit === "bit" ? fixed(mean(sum.spend[place]), 2)
          : percent(mean(sum.spend[place]), 1))),
        at ? percent(1 - sum.bytes / dense.bytes, 1) : MISSING,
      ];
      return h("tr", {}, h("th", { scope: "row" }, rowName(sum.name)),
        cells.map((text) => h("td", {}, text)));
    }));
    show(this.element, true);
  }
}
