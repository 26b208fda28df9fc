// The schedules side by side in numbers: what the text cost under each, and what each spent. Sums
// grow with the tokens; the page never goes through all of them again.

import { h, show } from "../shared/dom.js";
import { AXES, fixed, MISSING, nats, percent, signed } from "../shared/format.js";
import { glossed } from "../shared/glossary.js";
import { rowName, STATIC } from "./inspect_rows.js";

export class Totals {
  constructor() {
    this.body = h("tbody", {});
    this.columns = ["[[schedule|Schedule]]", "[[nll|NLL]]", "[[perplexity|Perplexity]]", "vs [[dense]]", "vs [[static]]",
      "[[kl|KL]]", "[[attention kept|Attention]]", "[[channels kept|Channels]]", "[[bits|Bits]]", "Bytes saved"];
    this.element = h("div", { class: "sol-table-scroll", tabindex: "0", role: "group",
      "aria-label": "Schedules compared", hidden: true },
    h("table", { class: "sol-inspect-table" }, h("thead", {}, h("tr", {},
      this.columns.map((name) => h("th", { scope: "col" }, glossed(name))))), this.body));
  }

  clear(names = []) {
    this.names = names;
    this.count = 0;
    this.sums = names.map(() => ({ s: 0, kl: 0, b: 0, a: [0, 0, 0] }));
    show(this.element, names.length > 0);
    if (names.length) this.draw();
  }

  add(tokens) {
    this.count += tokens.length;
    for (const token of tokens) {
      token.rows.forEach((row, at) => {
        const sum = this.sums[at];
        sum.s += row.s;
        sum.kl += row.kl;
        sum.b += row.b;
        row.a.forEach((value, axis) => { sum.a[axis] += value; });
      });
    }
  }

  draw() {
    const mean = (value) => value / this.count;
    const even = this.sums[this.names.indexOf(STATIC)];
    const dense = this.sums[0];
    this.body.replaceChildren(...this.sums.map((sum, at) => {
      const cells = [
        nats(mean(sum.s)), fixed(Math.exp(mean(sum.s)), 2),
        at ? signed(mean(sum.s - dense.s)) : MISSING,
        even && sum !== even ? signed(mean(sum.s - even.s)) : MISSING,
        at ? nats(mean(sum.kl)) : MISSING,
        ...AXES.map((axis, place) => (axis.key === "bits" ? fixed(mean(sum.a[place]), 2)
          : percent(mean(sum.a[place]), 1))),
        at ? percent(1 - sum.b / dense.b, 1) : MISSING,
      ];
      return h("tr", {}, h("th", { scope: "row" }, rowName(this.names[at])),
        cells.map((text) => h("td", {}, text)));
    }));
    show(this.element, true);
  }
}
