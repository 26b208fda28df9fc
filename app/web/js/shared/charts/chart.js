// One chart: title, a legend that hides lines, a plot of somebody else's arrays; and several of them, live.

import { glossed, h, messageOf, setText, show, wait, whenThemeChanges } from "../dom.js";

export class Chart {
  /** What is drawn: arrays over `x`. @type {any} */
  data = null;

  // spec: {title, empty: words where there is nothing, or these of data, keys: lines by {id, name, colour,
  // dash, isKnown(data)}, isKnown(data)}, and what a kind of chart draws; colour: of a name in the theme
  constructor(spec) {
    this.spec = spec;
    this.hidden = new Set();
    this.plot = h("div", { class: "sol-plot", role: "group", "aria-label": `${spec.title}: chart` });
    this.empty = h("p", { class: "sol-empty-chart" });
    this.note = h("p", { class: "sol-chart-note", hidden: true });
    this.legend = h("div", { class: "sol-chart-legend", role: "group", "aria-label": `${spec.title}: lines` },
      spec.keys.map((key) => this.legendKey(key)));
    this.element = h("section", { class: "sol-panel sol-chart" },
      h("header", {}, h("h2", {}, spec.title), this.legend),
      h("div", { class: "sol-plot-place" }, this.plot, this.empty), this.note);
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

  get isEmpty() { return !this.data.x.length || this.spec.isKnown?.(this.data) === false; }

  // A drawing begins: words in its place where there is nothing, and only lines that there are in the legend.
  begin() {
    const { data, spec: { empty = "", keys } } = this;
    this.empty.replaceChildren(h("span", {}, glossed(typeof empty === "string" ? empty : empty(data))));
    show(this.empty, this.isEmpty);
    keys.forEach((key, at) => show(this.legend.children[at], key.isKnown?.(data) ?? true));
  }

  async draw() {}

  async redraw() {
    try {
      if (this.data) await this.draw();
    } catch (error) {
      setText(this.empty, messageOf(error));
      show(this.empty, true);
    }
  }

  async resize() {
    this.redraw();
  }

  reset(data) {
    this.data = data;
    this.begin();
    setTimeout(() => data === this.data && this.redraw());
  }
}

const REDRAW_MS = 200;
const LONGEST_REDRAW_MS = 1500;
const REST = 16; // how many times longer than a redraw the pause after it is

// Charts over one set of arrays, redrawn together and not more often than is affordable.
export class LiveCharts {
  cost = 0; // of a drawing: ms

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
    const pause = Math.min(Math.max(REDRAW_MS, REST * this.cost), LONGEST_REDRAW_MS);
    this.timer ??= setTimeout(() => this.draw(), pause);
  }

  async draw() {
    const seen = this.data.x.length;
    for (const chart of this.all) {
      const begun = performance.now();
      await chart.redraw();
      this.cost = performance.now() - begun;
      await wait(0); // what came meanwhile is shown first
    }
    this.timer = null;
    if (this.data.x.length > seen) this.drawSoon();
  }
}
