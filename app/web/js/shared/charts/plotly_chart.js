// A chart drawn by plotly, half of the page's scripts: loaded where there is something to draw in sight.

import { h, pageElement, show, SITE, watchSight } from "../dom.js";
import { isNumber } from "../format.js";
import { glossed } from "../glossary.js";
import { Chart } from "./chart.js";

let plotlyPromise = null;

// Plotly from the server's own copy. Gradio brings one, too, as window.Plotly, which is put back as it was.
function loadPlotly() {
  plotlyPromise ??= new Promise((resolve, reject) => {
    const before = window.Plotly;
    const script = h("script", { src: SITE.plotly });
    script.onload = () => {
      const own = window.Plotly;
      if (before) window.Plotly = before;
      resolve(own);
    };
    script.onerror = () => {
      plotlyPromise = null;
      script.remove();
      reject(new Error("The charts' library did not load. Reload the page."));
    };
    document.head.append(script);
  });
  return plotlyPromise;
}

// Plotly reads a little HTML in its texts; a name is never meant as any.
export const plainText = (text) => text.replace(/[<>&%{}]/g, (sign) => `&#${sign.codePointAt(0)};`);

export const themeColour = (name) => getComputedStyle(document.body).getPropertyValue(`--sol-${name}`).trim();

const TOOLS_HEIGHT = 24; // px above the plotted area: plotly's tools lie there, not over the data
const CLEAR = "rgba(0,0,0,0)";

// A small layout of our own instead of plotly's 6.5 kB template; colours follow the theme.
function chartLayout(extra) {
  const line = themeColour("line");
  const axis = { gridcolor: line, linecolor: line, zeroline: false, automargin: false, fixedrange: false,
    tickfont: { color: themeColour("muted"), size: 11 }, ticks: "", tickcolor: line };
  const font = { color: themeColour("text"), size: 12 };
  const { xaxis, yaxis, yaxis2, margin = {}, ...rest } = extra;
  return {
    autosize: true, showlegend: false, hovermode: "x unified", paper_bgcolor: CLEAR, plot_bgcolor: CLEAR,
    font: { ...font, family: getComputedStyle(pageElement(".sol-page")).fontFamily },
    margin: { l: 46, r: yaxis2 ? 46 : 14, b: 36, ...margin, t: TOOLS_HEIGHT },
    dragmode: "select", selectdirection: "h", selections: [],
    newselection: { line: { color: themeColour("accent"), width: 1, dash: "dot" } },
    hoverlabel: { bgcolor: themeColour("panel"), bordercolor: themeColour("edge"), font },
    modebar: { bgcolor: CLEAR, color: themeColour("muted"), activecolor: themeColour("accent") },
    xaxis: { ...axis, ...xaxis }, yaxis: { ...axis, ...yaxis },
    ...(yaxis2 && { yaxis2: { ...axis, showgrid: false, overlaying: "y", side: "right", ...yaxis2 } }),
    ...rest,
  };
}

const CHART_CONFIG = { displaylogo: false, responsive: false, doubleClick: "reset", displayModeBar: "hover",
  modeBarButtons: [["select2d", "zoom2d", "resetScale2d", "toImage"]] };

const EARLY = "240px"; // what is this near to the window is drawn as if it were in it

export class PlotlyChart extends Chart {
  constructor(spec, on) {
    super(spec, on);
    watchSight(this.plot, (isSeen) => {
      this.isInSight = isSeen;
      if (isSeen && this.isStale) this.redraw();
    }, EARLY);
  }

  async draw(data) {
    this.data = data;
    this.begin(data);
    this.isStale = !this.isInSight;
    if (this.isStale) return;
    if (this.isEmpty(data)) return this.empties();
    const plotly = await loadPlotly();
    if (!this.plot.offsetWidth || data !== this.data) return;
    const begin = performance.now();
    const layout = chartLayout(this.spec.layout(data));
    const traces = this.spec.traces(data, themeColour)
      .map((trace) => ({ type: "scatter", ...trace, visible: !this.hidden.has(trace.meta) }));
    await plotly.react(this.plot, traces, layout, this.spec.config || CHART_CONFIG);
    this.cost = performance.now() - begin;
    if (!this.listening) this.listen();
    this.placeMarker();
  }

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
      this.on.select(ends ? [Math.ceil(Math.min(...ends)) - 1, Math.floor(Math.max(...ends)) - 1] : null);
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
    if (!xaxis || !size) return null;
    return { left: size.l, top: size.t, width: size.w, height: size.h, x: (value) => xaxis.l2p(value) };
  }

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

// A chart with a one-line reading aid. Unlike the live charts of Explore it selects nothing; dragging zooms.
const FIGURE_CONFIG = { ...CHART_CONFIG, modeBarButtons: [["zoom2d", "resetScale2d", "toImage"]] };
export const smallTitle = (text, standoff = 6) => ({ text, font: { size: 11 }, standoff });

export class Figure extends PlotlyChart {
  // spec: as of Chart, with aid: how to read it, and tools: nodes for its head
  constructor(spec) {
    super({ config: FIGURE_CONFIG, ...spec,
      layout: (data) => ({ dragmode: "zoom", ...spec.layout(data) }) }, {});
    this.element.classList.add("sol-figure");
    if (spec.tools) this.legend.before(spec.tools);
    this.note.replaceChildren(...glossed(spec.aid));
    show(this.note, true);
  }

  listen() {
    this.listening = true;
  }
}

/** A figure of a result, which has all of its data at once; its tools redraw it. @param {any} spec */
export function resultFigure({ data, ...spec }) {
  const made = new Figure({ empty: "Not measured.", ...spec, layout: () => ({ hovermode: "closest",
    uirevision: 1, datarevision: Math.random(), ...spec.layout() }) });
  made.data = { ...data, x: [0] };
  spec.tools?.addEventListener("change", () => made.redraw());
  return made;
}

export const intervals = (points, colour) => ({ type: "data", symmetric: false, thickness: 1.2, width: 3,
  color: themeColour(colour), array: points.map(([value, , high]) => (isNumber(high) ? high - value : 0)),
  arrayminus: points.map(([value, low]) => (isNumber(low) ? value - low : 0)) });

export const rule = (ends, colour, dash) =>
  ({ type: "line", ...ends, line: { color: themeColour(colour), width: 1, dash } });
export const across = (y, colour, dash) => rule({ xref: "paper", x0: 0, x1: 1, y0: y, y1: y }, colour, dash);
