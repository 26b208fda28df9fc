// A chart drawn by plotly: a redraw is one Plotly.react. Without data or out of sight nothing is drawn, and
// plotly, half of the page's scripts, is not even loaded; a chart is up to date when it comes into sight.

import { show, watchSight } from "../dom.js";
import { Chart } from "./chart.js";
import { CHART_CONFIG, chartLayout, loadPlotly, themeColour } from "./plotly.js";
import { glossed } from "../glossary.js";

const EARLY = "240px"; // what is this near to the window is drawn as if it were in it

export class PlotlyChart extends Chart {
  constructor(spec, on) {
    super(spec, on);
    watchSight(this.plot, (isSeen) => {
      this.isInSight = isSeen;
      if (isSeen && this.isStale) this.redraw();
    }, EARLY);
  }

  async ready() {
    if (this.isInSight && this.data?.x.length) await loadPlotly();
  }

  async draw(data) {
    this.data = data;
    this.begin(data);
    this.isStale = !this.isInSight;
    if (this.isStale) return;
    if (!data.x.length) return this.empties();
    const plotly = await loadPlotly();
    if (!this.plot.offsetWidth || data !== this.data) return;
    const layout = chartLayout(this.spec.layout(data));
    const traces = this.spec.traces(data, themeColour).map((trace) => ({
      type: "scatter", ...trace,
      visible: !this.hidden.has(trace.meta),
    }));
    await plotly.react(this.plot, traces, layout, this.spec.config || CHART_CONFIG);
    if (!this.listening) this.listen();
    this.placeMarker();
  }

  // Words stand where a drawing was.
  async empties() {
    if (!this.listening) return;
    this.listening = false;
    (await loadPlotly()).purge(this.plot);
  }

  listen() {
    this.listening = true;
    this.plot.on("plotly_hover", (event) => this.on.hover(Math.round(event.points[0].x) - 1));
    this.plot.on("plotly_unhover", () => this.on.leave());
    this.plot.on("plotly_relayout", () => this.placeMarker());
    this.plot.on("plotly_selected", (event) => {
      if (this.settling) return;
      const ends = event?.range?.x;
      this.on.select(ends ? [Math.ceil(Math.min(...ends)) - 1, Math.floor(Math.max(...ends)) - 1]
        : null);
    });
    this.plot.on("plotly_deselect", () => this.settling || this.on.select(null));
  }

  async resize() {
    if (!this.plot.offsetWidth) return;
    if (!this.listening) return this.redraw();
    const plotly = await loadPlotly();
    plotly.Plots.resize(this.plot).then(() => this.placeMarker());
  }

  frame() {
    const { xaxis, _size: size } = this.plot._fullLayout ?? {};
    return xaxis && size ? { left: size.l, top: size.t, width: size.w, height: size.h,
      x: (value) => xaxis.l2p(value) } : null;
  }

  // The band is our own; the box that the pointer drew goes away.
  async setSelection(range) {
    super.setSelection(range);
    if (!this.plot.layout?.selections?.length) return;
    const plotly = await loadPlotly();
    this.settling = true; // what plotly reports meanwhile is only the box that goes
    try {
      await plotly.relayout(this.plot, { selections: [] });
    } finally {
      this.settling = false;
    }
  }
}

// A figure: a chart with a one-line reading aid. Unlike the live charts of Explore it selects nothing;
// dragging zooms.
const FIGURE_CONFIG = { ...CHART_CONFIG, modeBarButtons: [["zoom2d", "resetScale2d", "toImage"]] };
export const smallTitle = (text, standoff = 6) => ({ text, font: { size: 11 }, standoff });

export class Figure extends PlotlyChart {
  // spec: as of Chart, with aid: how to read it, and tools: nodes for its head
  constructor(spec) {
    super({ config: FIGURE_CONFIG, ...spec, layout: (data) => ({ dragmode: "zoom",
      ...spec.layout(data) }) }, {});
    this.element.classList.add("sol-figure");
    if (spec.tools) this.legend.before(spec.tools);
    this.note.replaceChildren(...glossed(spec.aid));
    show(this.note, true);
  }

  // Nothing is selected here, and hovering concerns nobody else.
  listen() {
    this.listening = true;
  }
}
