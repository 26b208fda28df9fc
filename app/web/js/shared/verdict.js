// The sentences that a comparison begins with, as Python says them (sol_core/reporting/verdict.py).

import { h } from "./dom.js";

export class VerdictLine {
  element = h("div", { class: "sol-findings" });

  /** @param {({ kind: string, head: string, rest: string } | null | undefined)[]} verdicts */
  draw(verdicts) {
    this.element.replaceChildren(...verdicts.flatMap((one) => one ?? []).map(({ kind, head, rest }) =>
      h("p", { class: "sol-finding", "data-verdict": kind }, h("b", {}, head), rest)));
  }
}
