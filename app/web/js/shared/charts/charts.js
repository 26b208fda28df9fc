// The live charts: what each axis spent against its budget, and what that did to quality.

import { chip, drawInTurn, h, selectOf, setText, show } from "../dom.js";
import { memory } from "../memory.js";
import { selectionText } from "../page_parts.js";
import { Reading } from "../tokens/reading.js";
import { TokenStage } from "../tokens/token_stage.js";
import { LiveCharts } from "./chart.js";
import { emptySeries, extendSeries, QUALITY_VIEWS, spendChart } from "./series.js";

const VIEW = "qualityView";

export class Charts extends LiveCharts {
  // Kind: a chart's class; missing: said where KL was not measured; scored: whose text surprisal scores.
  constructor(Kind, on, { scored = "All rows score the text that this run wrote, which favours its own row.",
    missing = "Turn on “Measure quality against the full model” to measure [[kl|KL]]." }) {
    const quality = new Kind(QUALITY_VIEWS[0], on);
    super([new Kind(spendChart, on), quality], "sol-charts");
    this.quality = quality;
    this.missing = missing;
    this.scored = scored;
    this.choice = selectOf(QUALITY_VIEWS.map(({ id, name }) => [id, name]), { class: "sol-input is-head",
      "aria-label": "Quality: measure", onchange: () => this.choose(this.choice.value) });
    quality.legend.before(this.choice);
    this.clear(null);
    this.choose(memory.get(VIEW));
  }

  clear(run) {
    this.reset(emptySeries(run));
  }

  append(rows) {
    rows.forEach((row) => extendSeries(this.data, row));
    this.drawSoon();
  }

  async draw() {
    await super.draw();
    this.explain();
  }

  finish() {
    this.data.ended = true;
    clearTimeout(this.timer);
    this.draw();
  }

  choose(id) {
    this.view = QUALITY_VIEWS.find((one) => one.id === id) ?? QUALITY_VIEWS[0];
    this.choice.value = this.view.id;
    memory.set(VIEW, this.view.id);
    this.quality.setSpec(this.view);
    this.explain();
  }

  explain() {
    const { isDense, hasKl } = this.data;
    const words = isDense ? "The full model is its own reference: its [[kl|KL]] is zero." : this.missing;
    this.quality.setAbsent(this.data.x.length > 0 && !hasKl && !this.view.isScore ? words : null);
    setText(this.quality.note, this.scored);
    show(this.quality.note, Boolean(this.view.isScore));
  }

  mark(index) {
    drawInTurn(this, () => this.all.forEach((chart) => chart.mark(index)));
  }

  setSelection(range) {
    this.all.forEach((chart) => chart.setSelection(range));
  }
}

export class ChartedStage extends TokenStage {
  readAt = 0; // number of the text whose reads are on show

  // hint: the foot's words while nothing is selected; ChartKind, words: as of Charts.
  constructor(root, axes, on, { hint, ChartKind, colourKey, ...words }) {
    super(root, axes, on, colourKey);
    this.hint = hint;
    this.charts = new Charts(ChartKind, {
      hover: (index) => this.mark(index, true), leave: () => this.mark(null),
      select: (range) => this.select(this.within(range)),
    }, words);
    this.reading = new Reading({ effects: on.effects,
      rows: () => this.rows(this.readAt), elements: () => this.elements(this.readAt),
      mark: (index) => this.mark(index, true), select: (range) => this.select(range) });
    this.summary = h("p", { class: "sol-selection", "aria-live": "polite" }, hint);
    this.unselect = chip("Clear selection", () => this.select(null), { hidden: true });
    addEventListener("keydown", (event) => {
      if (event.key === "Escape" && this.card.element.hidden && this.selected) this.select(null);
    });
  }

  buildFoot(tools) {
    return h("footer", { class: "sol-token-foot" }, this.summary, this.unselect, tools);
  }

  clear() {
    this.card.hide();
    this.reading.clear();
    this.charts.clear(null);
    this.select(null);
  }

  mark(index, bringIntoView = false, at = 0) {
    super.mark(index, bringIntoView, at);
    this.charts.mark(index);
  }

  within(range) {
    const [from, to] = [Math.max(range?.[0] ?? 0, 0), Math.min(range?.[1] ?? -1, this.rows().length - 1)];
    return from <= to ? [from, to] : null;
  }

  select(range) {
    super.select(range);
    if (String(range) !== String(this.selected ?? null)) this.charts.setSelection(range);
    this.selected = range;
    setText(this.summary, range ? selectionText(this.rows(), range) : this.hint);
    show(this.unselect, range !== null);
  }
}
