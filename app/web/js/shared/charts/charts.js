// The live charts: what each axis spent against its budget, and what that did to quality.

import { chip, drawInTurn, h, selectOf, setText, show } from "../dom.js";
import { memory } from "../memory.js";
import { selectionText } from "../page_parts.js";
import { Reading } from "../tokens/reading.js";
import { TokenStage } from "../tokens/token_stage.js";
import { LiveCharts } from "./chart.js";
import { emptySeries, QUALITY_VIEWS, spendChart } from "./series.js";
import { SvgChart } from "./svg_chart.js";

const VIEW = "qualityView";

export class Charts extends LiveCharts {
  // on: as of an SvgChart; missing: said where KL was not measured; scored: whose text surprisal scores.
  constructor(on, { scored = "All rows score the text that this run wrote, which favours its own row.",
    missing = "Turn on “Check against the full model” to measure [[kl|KL]]." }) {
    const [spend, quality] = [spendChart, QUALITY_VIEWS[0]].map((spec) => new SvgChart(spec, on));
    super([spend, quality], "sol-charts");
    this.live = [spend, quality];
    this.quality = quality;
    this.missing = missing;
    this.choice = selectOf(QUALITY_VIEWS.map(({ id, name }) => [id, name]), { class: "sol-input is-head",
      "aria-label": "Quality: measure", onchange: () => this.choose(this.choice.value) });
    quality.legend.before(this.choice);
    setText(quality.note, scored);
    this.clear(null);
    this.choose(memory.get(VIEW));
  }

  clear(run) {
    this.reset(emptySeries(run, this.missing));
  }

  append(rows) {
    this.data.x.push(...rows.map((row) => row.index + 1));
    this.data.rows.push(...rows);
    this.drawSoon();
  }

  finish() {
    this.data.ended = true;
    clearTimeout(this.timer);
    this.draw();
  }

  choose(id) {
    const view = QUALITY_VIEWS.find((one) => one.id === id) ?? QUALITY_VIEWS[0];
    this.choice.value = view.id;
    memory.set(VIEW, view.id);
    this.quality.setSpec(view);
    show(this.quality.note, view.isScore);
  }

  mark(index) {
    drawInTurn(this, () => this.live.forEach((chart) => chart.mark(index)));
  }

  setSelection(range) {
    this.live.forEach((chart) => chart.setSelection(range));
  }
}

export class ChartedStage extends TokenStage {
  readAt = 0; // number of the text whose reads are on show

  // hint: the foot's words while nothing is selected; words: as of Charts.
  constructor(root, axes, on, { hint, colourKey, ...words }) {
    super(root, axes, on, colourKey);
    this.hint = hint;
    const inText = { mark: (index) => this.mark(index, true), select: (range) => this.select(range) };
    this.charts = new Charts(inText, words);
    this.reading = new Reading({ ...inText, effects: on.effects,
      rows: () => this.rows(this.readAt), elements: () => this.elements(this.readAt) });
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
    this.picked = [null, 0];
    this.resting = null;
    this.card.hide();
    this.reading.clear();
    this.charts.clear(null);
    this.select(null);
  }

  mark(index, bringIntoView = false, at = 0) {
    super.mark(index, bringIntoView, at);
    this.reading.mark(index);
    this.charts.mark(index);
  }

  select(range) {
    super.select(range);
    if (String(range) !== String(this.selected ?? null)) this.charts.setSelection(range);
    this.selected = range;
    setText(this.summary, range ? selectionText(this.rows(), range) : this.hint);
    show(this.unselect, range !== null);
  }
}
