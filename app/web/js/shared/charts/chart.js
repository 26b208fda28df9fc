// One live chart: title, a legend that hides lines, a plot of somebody else's arrays; and several of them.

import { h, messageOf, setText, show, wait, whenThemeChanges } from "../dom.js";
import { isNumber } from "../format.js";
import { glossed } from "../glossary.js";

export class Chart {
  cost = 0; // of a drawing: ms

  // spec: {title, empty, keys: lines by {id, name, colour, dash, isKnown(data)}, layout(data), traces(data,
  // colour), config, isKnown(data)}; colour: of a name in the theme; on: {hover, leave, select}
  constructor(spec, on) {
    this.spec = spec;
    this.on = on;
    this.hidden = new Set();
    this.plot = h("div", { class: "sol-plot", role: "group", "aria-label": `${spec.title}: chart` });
    this.marker = h("div", { class: "sol-marker", "aria-hidden": "true", hidden: true });
    this.band = h("div", { class: "sol-band", "aria-hidden": "true", hidden: true });
    this.empty = h("p", { class: "sol-empty-chart" }, spec.empty);
    this.note = h("p", { class: "sol-chart-note", hidden: true });
    this.legend = h("div", { class: "sol-chart-legend", role: "group", "aria-label": `${spec.title}: lines` },
      spec.keys.map((key) => this.legendKey(key)));
    this.element = h("section", { class: "sol-panel sol-chart" },
      h("header", {}, h("h2", {}, spec.title), this.legend),
      h("div", { class: "sol-plot-place" }, this.plot, this.band, this.marker, this.empty), this.note);
    new ResizeObserver(() => this.resize()).observe(this.plot);
  }

  legendKey(key) {
    return h("button", { type: "button", class: "sol-key", "aria-pressed": String(!this.hidden.has(key.id)),
      "data-colour": key.colour, "data-dash": key.dash, "--key": `var(--sol-${key.colour})`,
      onclick: (event) => {
        if (!this.hidden.delete(key.id)) this.hidden.add(key.id);
        event.currentTarget.setAttribute("aria-pressed", String(!this.hidden.has(key.id)));
        this.redraw();
      } }, h("i", { "aria-hidden": "true" }), key.name);
  }

  setSpec(spec) {
    this.spec = spec;
    this.legend.replaceChildren(...spec.keys.map((key) => this.legendKey(key)));
    this.redraw();
  }

  isEmpty(data) {
    return !data.x.length || this.spec.isKnown?.(data) === false;
  }

  // A drawing begins: words in its place where there is nothing, and only lines that there are in the legend.
  begin(data) {
    show(this.empty, this.isEmpty(data) || Boolean(this.absent));
    this.spec.keys.forEach((key, at) => show(this.legend.children[at], key.isKnown?.(data) ?? true));
  }

  // Words, with terms as the glossary marks them, why this view has nothing to draw; null: it has.
  setAbsent(text) {
    if (text === this.absent) return;
    this.absent = text;
    if (text) this.empty.replaceChildren(h("span", {}, glossed(text)));
    show(this.empty, Boolean(text) || !this.data || this.isEmpty(this.data));
  }

  async draw(data) {}

  async resize() {
    this.redraw();
  }

  /** Where the plotted area lies, and how far a token's number is from its left edge, once that is known.
   * @returns {{left: number, top: number, width: number, height: number, x(value: number): number} | null} */
  frame() {
    return null;
  }

  redraw() {
    if (this.data) this.draw(this.data).catch((error) => this.fail(error));
  }

  fail(error) {
    setText(this.empty, messageOf(error));
    show(this.empty, true);
  }

  reset(data) {
    this.data = data;
    this.absent = null;
    setText(this.empty, this.spec.empty);
    show(this.empty, true);
    this.mark(null);
    setTimeout(() => data === this.data && this.redraw());
  }

  mark(index) {
    this.index = index;
    this.placeMarker();
  }

  placeMarker() {
    this.lay(this.marker, isNumber(this.index) ? [this.index + 1, this.index + 1] : null);
    this.lay(this.band, this.range ? [this.range[0] + 0.5, this.range[1] + 1.5] : null);
  }

  lay(mark, ends) {
    const frame = ends && this.frame();
    const [left, right] = frame
      ? [Math.max(frame.x(ends[0]), 0), Math.min(frame.x(ends[1]), frame.width)] : [0, -1];
    show(mark, right >= left);
    if (!frame || right < left) return;
    const box = { left: frame.left + left, width: right - left, top: frame.top, height: frame.height };
    for (const [side, value] of Object.entries(box)) mark.style[side] = `${value}px`;
  }

  async setSelection(range) {
    this.range = range;
    this.placeMarker();
  }
}

const REDRAW_MS = 200;
const LONGEST_REDRAW_MS = 1500;
const REST = 16; // how many times longer than a redraw the pause after it is

// Charts over one set of arrays, redrawn together and not more often than is affordable.
export class LiveCharts {
  /** @param {Chart[]} all @param {string} kind */
  constructor(all, kind) {
    this.all = all;
    this.element = h("div", { class: kind }, all.map((chart) => chart.element));
    whenThemeChanges(() => all.forEach((chart) => chart.redraw()));
  }

  reset(data) {
    this.data = data;
    clearTimeout(this.timer);
    this.timer = null;
    this.all.forEach((chart) => chart.reset(data));
  }

  drawSoon() {
    const pause = Math.min(Math.max(REDRAW_MS, REST * this.all[0].cost), LONGEST_REDRAW_MS);
    this.timer ??= setTimeout(() => this.draw(), pause);
  }

  async draw() {
    const seen = this.data.x.length;
    for (const chart of this.all) {
      try {
        await chart.draw(this.data);
      } catch (error) {
        chart.fail(error);
      }
      await wait(0); // what came meanwhile is shown first
    }
    this.timer = null;
    if (this.data.x.length > seen) this.drawSoon();
  }
}
