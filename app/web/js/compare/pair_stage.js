// Two runs of one prompt side by side: both texts, aligned once both have ended, with the first token
// that differs marked, and both in numbers. Whoever has the rows feeds it: the Compare page, an
// exported file.

import { h, setText, show } from "../shared/dom.js";
import { AXES, count, mechanismsOf, modelName, percent, scheduleOf } from "../shared/format.js";
import { leadParts } from "../shared/page_parts.js";
import { Tally } from "../shared/runs/status.js";
import { setPill, STATES } from "../shared/runs/status_line.js";
import { SITE } from "../shared/site.js";
import { cardParts, TokenCard } from "../shared/tokens/card.js";
import { gridLevels } from "../shared/tokens/card_policy.js";
import { Legend } from "../shared/tokens/legend.js";
import { colourAxes, TokenView } from "../shared/tokens/tokens.js";
import { PairTable, sideName, SIDES } from "./pair_table.js";

export class PairStage {
  // hint: what the foot says before both are compared; tail(at): what a side's head ends with;
  // colour(key): somebody chose a colour.
  constructor(root, hint, tail = (at) => null, colour = (key) => {}) {
    this.hint = hint;
    this.axes = colourAxes();
    this.card = new TokenCard(root, (row) => cardParts(row, this.sides[row.column]?.levels));
    this.sides = SIDES.map((side, at) => this.buildSide(side, at, tail(at)));
    this.card.onHide = () => this.mark(0, null);
    this.legend = new Legend(this.axes, (axis, isChosen) => {
      this.sides.forEach((one) => one.view.setAxis(axis));
      if (isChosen) colour(axis.key);
    }, "axis", (isStretched) => this.sides.forEach((one) => one.view.spanColours(isStretched)));
    this.table = new PairTable();
    this.parted = h("p", { class: "sol-pair-parted", role: "status" }, hint);
    this.grid = h("div", { class: "sol-pair-grid sol-lines" }, this.sides.map((one) => one.head),
      this.sides.map((one) => one.view.list));
    this.place = h("div", { class: "sol-pair-scroll" }, this.grid);
    // Both lists scroll in one place.
    this.sides.forEach((one) => { one.view.element = this.place; });
    this.lead = h("div", { class: "sol-lead" });
  }

  /** @returns {{ view: TokenView, tally: Tally, rows: Token[], run: Run | null, levels: GridAxis[] | null, nll: number[] | null,
   *   state: HTMLElement, detail: HTMLElement, head: HTMLElement }} */
  buildSide(side, at, tail) {
    const view = new TokenView(this.axes, {
      enter: (index, token) => this.enter(at, index, token),
      leave: () => this.card.hideSoon(),
      select: (range) => view.select(range),
      spanned: () => this.sides.flatMap((one) => one.rows),
      span: (span) => {
        this.legend?.showSpan(span);
        this.sides.forEach((one) => one.view.spanColours());
      },
    }, `Tokens of ${sideName(side)}`);
    const state = h("span", { class: "sol-state", "data-kind": "idle" }, "Nothing yet");
    const detail = h("span", { class: "sol-detail" });
    const head = h("header", { class: "sol-pair-head", "data-side": side },
      h("b", { class: "sol-side-letter" }, sideName(side)), state, detail, tail);
    return { view, tally: new Tally(), rows: [], run: null, levels: null, nll: null, state, detail, head };
  }

  // over: stands in place of the texts while there are none; tools: for the foot.
  /** @param {{ over?: Element, tools?: Element[] }} [parts] */
  build({ over, tools } = {}) {
    return h("section", { class: "sol-panel sol-pair", "aria-label": "Both texts" },
      this.legend.element, this.lead, over, this.place,
      h("footer", { class: "sol-token-foot" }, this.parted, tools));
  }

  clear() {
    this.card.hide();
    this.partners = null;
    this.lead.replaceChildren();
    this.sides.forEach((one, at) => {
      Object.assign(one, { tally: new Tally(), rows: [], run: null, nll: null });
      one.view.clear();
      one.view.startBlock(blockAttributes(0, at, true));
      setPill(one.state, "Nothing yet", "idle");
      setText(one.detail, "");
    });
    show(this.table.element, false);
    setText(this.parted, this.hint);
  }

  begin(at, run) {
    const side = this.sides[at];
    side.run = run;
    side.levels = gridLevels(run);
    const { kind, policy, asked, share } = scheduleOf(run);
    const name = policy ? `Policy ${modelName(policy)}` : SITE.schedules[kind] ?? kind;
    setText(side.detail, kind === "dense" ? name
      : `${name} · ${share ? `${percent(share)} of the bytes` : `${AXES.map((axis, n) => axis.show(asked[n])).join(" · ")} bits`} · ${mechanismsOf(run)}`);
    if (at === 0) this.lead.replaceChildren(...leadParts(run));
  }

  append(at, rows) {
    const side = this.sides[at];
    for (const row of rows) {
      row.column = at;
      side.rows.push(row);
      side.tally.add(row);
    }
    side.view.append(rows);
  }

  setState(at, status) {
    const [name, kind] = STATES[status] ?? [status, "idle"];
    setPill(this.sides[at].state, name, kind);
  }

  // compared: as Python gives it.
  draw(compared) {
    this.sides.forEach((one, at) => { one.nll = compared.sides[at].nll; });
    if (compared.stretches) this.align(compared.stretches);
    setText(this.parted, this.partedText(compared));
    if (compared.parted !== null) {
      this.sides.forEach((one) => one.view.elements[compared.parted]?.classList.add("is-parted"));
    }
    this.drawTable(compared.sides.map((side, at) => side.problem && `${sideName(SIDES[at])}: ${side.problem}`)
      .filter(Boolean));
  }

  partedText({ same_prompt: isSame, parted, stretches }) {
    const ends = this.sides.map((one) => one.rows.length);
    if (!isSame) return "The prompts differ, so the texts stand side by side and are not aligned.";
    if (parted === null) return `Both sides wrote the same ${count(ends[0], "token")}.`;
    const same = stretches.filter(([is]) => is).reduce((sum, [, a, b]) => sum + b - a, 0);
    return `First difference at token ${parted + 1}. `
      + `${count(same, "token")} of ${Math.max(...ends)} agree, later agreements of three or more included.`;
  }

  // problems: sentences about what could not be scored.
  drawTable(problems) {
    show(this.table.element, true);
    this.table.render(this.sides, problems);
  }

  // Lays both texts out again, stretch by stretch: what belongs together stands in one row.
  align(stretches) {
    const partners = this.partners = this.sides.map(() => new Map());
    for (const one of this.sides) one.view.clear();
    stretches.forEach(([same, a, aEnd, b, bEnd], row) => {
      [[a, aEnd], [b, bEnd]].forEach(([from, to], at) => {
        const block = this.sides[at].view.startBlock(blockAttributes(row, at, same));
        this.sides[at].view.append(this.sides[at].rows.slice(from, to));
        if (from === to) block.append(h("span", { class: "sol-muted" }, "nothing here"));
      });
      for (let step = 0; same && step < aEnd - a; step += 1) {
        partners[0].set(a + step, b + step);
        partners[1].set(b + step, a + step);
      }
    });
    this.place.scrollTop = 0;
  }

  enter(at, index, token) {
    this.card.show(this.sides[at].rows[index], token);
    this.mark(at, index);
  }

  // A token and, where both sides agree, its partner.
  mark(at, index) {
    this.sides[at].view.mark(index);
    const partner = index === null ? null : this.partners?.[at].get(index) ?? null;
    this.sides[1 - at].view.mark(partner);
  }
}

function blockAttributes(row, at, same) {
  return { class: `sol-pair-block${same ? "" : " is-apart"}`, "data-side": SIDES[at], "--row": row + 1,
    "--side": at + 1 };
}
