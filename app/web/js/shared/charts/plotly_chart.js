// A figure drawn by plotly, half of the page's scripts: loaded where there is something to draw in sight.

import { glossed, h, pageElement, show, SITE, watchSight } from "../dom.js";
import { isNumber } from "../format.js";
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
    hoverlabel: { bgcolor: themeColour("panel"), bordercolor: themeColour("edge"), font },
    modebar: { bgcolor: CLEAR, color: themeColour("muted"), activecolor: themeColour("accent") },
    xaxis: { ...axis, ...xaxis }, yaxis: { ...axis, ...yaxis },
    ...(yaxis2 && { yaxis2: { ...axis, showgrid: false, overlaying: "y", side: "right", ...yaxis2 } }),
    ...rest,
  };
}

const CONFIG = { displaylogo: false, responsive: false, doubleClick: "reset", displayModeBar: "hover",
  modeBarButtons: [["zoom2d", "resetScale2d", "toImage"]] };

const EARLY = "240px"; // what is this near to the window is drawn as if it were in it

export const smallTitle = (text, standoff = 6) => ({ text, font: { size: 11 }, standoff });

export class Figure extends Chart {
  // spec: as of Chart, with layout(data), traces(data), aid: how to read it, and tools: nodes for its head
  constructor(spec) {
    super(spec);
    this.element.classList.add("sol-figure");
    if (spec.tools) this.legend.before(spec.tools);
    this.note.replaceChildren(...glossed(spec.aid));
    show(this.note, true);
    watchSight(this.plot, (isSeen) => {
      this.isInSight = isSeen;
      if (isSeen && this.isStale) this.redraw();
    }, EARLY);
  }

  async draw() {
    const { data } = this;
    this.begin();
    this.isStale = !this.isInSight;
    if (this.isStale) return;
    if (this.isEmpty && !this.isDrawn) return;
    const plotly = await loadPlotly();
    if (!this.plot.offsetWidth || data !== this.data) return;
    this.isDrawn = !this.isEmpty;
    if (this.isEmpty) return plotly.purge(this.plot);
    const traces = this.spec.traces(data)
      .map((trace) => ({ type: "scatter", ...trace, visible: !this.hidden.has(trace.meta) }));
    await plotly.react(this.plot, traces, chartLayout(this.spec.layout(data)), CONFIG);
  }

  async resize() {
    if (!this.plot.offsetWidth) return;
    if (!this.isDrawn) return this.redraw();
    (await loadPlotly()).Plots.resize(this.plot);
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
