// Left and right of the drawing: who chose, with the levels there were, and what came out.

import { h, setText } from "../dom.js";
import { AXES, probability, probabilityOf, scheduleName, scheduleOf } from "../format.js";
import { glossed } from "../glossary.js";
import { gridLevels, isOfPolicy, LEAST_TOP, levelText, nearest } from "../tokens/card.js";
import { tokenNodes } from "../tokens/token_text.js";
import { bytesText } from "./reads.js";

const SPECIAL = /^(<\|.+\|>|<\/s>)$/; // ends a text, and is no word of it
const TITLES = { dense: "[[dense|Full model]]: reads everything", static: "[[static|Static]]: no [[policy]]", random: "[[random|Random]] choice" };

// The chooser of a run, with terms as the glossary marks them.
function titleOf(run) {
  return TITLES[scheduleOf(run).kind] ?? scheduleName(run).replace("Policy", "[[policy|Policy]]");
}

export const plainTitle = (run) => titleOf(run).replace(/\[\[(?:[^\]|]*\|)?([^\]]*)\]\]/g, "$1");

// One small histogram an axis: the policy's probability of every level, or the one level that was taken.
export class Choices {
  constructor() {
    this.title = h("p", { class: "sol-machine-title" });
    this.rows = AXES.map((axis) => {
      const [value, bars] = [h("span", { class: "sol-value" }), h("div", { class: "sol-levels" })];
      return { axis, value, bars, element: h("div", { class: "sol-machine-choice", "data-axis": axis.key },
        h("span", { class: "sol-name" }, axis.name), value, bars) };
    });
    this.element = h("div", { class: "sol-machine-policy" }, this.title, this.rows.map((row) => row.element));
  }

  begin(run) {
    this.axes = gridLevels(run);
    this.title.replaceChildren(...glossed(titleOf(run), true));
    this.rows.forEach(({ axis, bars }) => bars.replaceChildren(...this.levelsOf(axis).map(() => h("i", { "--v": 0 }))));
  }

  levelsOf(axis) {
    return this.axes?.find((one) => one.axis === axis)?.levels ?? [];
  }

  /** @param {Token} token */
  show(token) {
    const shares = isOfPolicy(token, this.axes) ? token.policy : null;
    const top = Math.max(...(shares ?? []).flat(), LEAST_TOP);
    this.rows.forEach(({ axis, value, bars }) => {
      setText(value, levelText(axis, axis.of(token)));
      const at = this.axes?.findIndex((one) => one.axis === axis) ?? -1;
      const chosen = nearest(this.levelsOf(axis), axis.of(token));
      Array.from(bars.children, (bar, level) => {
        bar.classList.toggle("is-chosen", level === chosen);
        bar.style.setProperty("--v", shares?.[at] ? shares[at][level] / top : Number(level === chosen));
      });
    });
  }
}

export class Outcome {
  constructor() {
    this.bytes = h("b");
    this.ofDense = h("span", { class: "sol-muted" });
    this.token = h("span", { class: "sol-machine-token", dir: "auto" });
    this.chance = h("span", { class: "sol-machine-chance" });
    this.element = h("div", { class: "sol-machine-outcome" },
      this.token, this.chance, h("p", { class: "sol-machine-bytes" }, this.bytes, " ", this.ofDense));
  }

  /** @param {Token} token */
  show(token) {
    const [read, ofDense] = bytesText(token);
    setText(this.bytes, read);
    setText(this.ofDense, ofDense);
    const isSpecial = SPECIAL.test(token.text);
    this.token.classList.toggle("is-special", isSpecial);
    this.token.replaceChildren(...(isSpecial ? ["end of text"] : tokenNodes(token.text)));
    setText(this.chance, `${probability(probabilityOf(token.surprisal))} probable`);
  }
}
