// The live charts: what each axis spent against its budget, and what that did to quality.
// The arrays live here; a redraw is one Plotly.react, as often as the machine can afford.

import { show, wait, whenThemeChanges } from "../dom.js";
import { glossed } from "../glossary.js";
import { messageOf } from "../message.js";
import { emptySeries, extendSeries, qualityChart, spendChart } from "./series.js";

const REDRAW_MS = 200;
const LONGEST_REDRAW_MS = 1500;
const REST = 16; // how many times longer than a redraw the pause after it is

// Both charts over one set of arrays, redrawn together and not more often than is affordable.
export class Charts {
  // Kind: the class that draws one; missing: what is said where KL was not measured.
  constructor(Kind, on, missing = "Turn on “Measure quality against dense” to measure [[kl|KL]].") {
    this.missing = missing;
    this.spend = new Kind(spendChart, on);
    this.quality = new Kind(qualityChart, on);
    this.all = [this.spend, this.quality];
    this.clear(null);
    whenThemeChanges(() => this.all.forEach((chart) => chart.redraw()));
  }

  clear(run) {
    this.data = emptySeries(run);
    clearTimeout(this.timer);
    this.timer = null;
    this.cost = 0;
    this.all.forEach((chart) => chart.reset(this.data));
    show(this.quality.note, false);
  }

  append(rows) {
    rows.forEach((row) => extendSeries(this.data, row));
    this.timer ??= setTimeout(() => this.draw(),
      Math.min(Math.max(REDRAW_MS, REST * this.cost), LONGEST_REDRAW_MS));
  }

  async draw() {
    try {
      await this.spend.ready();
      const begin = performance.now();
      await this.spend.draw(this.data);
      this.cost = performance.now() - begin;
      await wait(0); // tokens that came meanwhile are shown first
      await this.quality.draw(this.data);
      this.explain();
    } catch (error) {
      this.all.forEach((chart) => chart.fail(messageOf(error)));
    }
    this.timer = null;
  }

  finish() {
    this.data.ended = true;
    clearTimeout(this.timer);
    this.draw();
  }

  explain() {
    const { isDense, hasKl } = this.data;
    const missing = this.data.x.length > 0 && !hasKl && !isDense;
    const text = isDense ? "A dense run is its own reference: [[kl|KL]] to dense is zero."
      : this.missing;
    if (this.explained !== text) this.quality.note.replaceChildren(...glossed(this.explained = text));
    show(this.quality.note, missing || (isDense && this.data.x.length > 0));
  }

  mark(index) {
    this.all.forEach((chart) => chart.mark(index));
  }

  setSelection(range) {
    this.all.forEach((chart) => chart.setSelection(range));
  }
}
