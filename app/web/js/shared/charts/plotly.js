// Plotly from the server's own copy. Gradio brings one too and overwrites window.Plotly, so this
// keeps its own reference and puts the global back as it was.

import { h, pageElement } from "../dom.js";
import { SITE } from "../site.js";

let plotlyPromise = null;

export function loadPlotly() {
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

export function themeColour(name) {
  return getComputedStyle(document.body).getPropertyValue(`--sol-${name}`).trim();
}

const TOOLS_HEIGHT = 24; // px above the plotted area: plotly's tools lie there, not over the data

// A small layout of our own instead of plotly's 6.5 kB template; colours follow the theme.
export function chartLayout(extra) {
  const line = themeColour("line");
  const axis = {
    gridcolor: line, linecolor: line, zeroline: false, automargin: false, fixedrange: false,
    tickfont: { color: themeColour("muted"), size: 11 }, ticks: "", tickcolor: line,
  };
  const { xaxis, yaxis, yaxis2, margin = {}, ...rest } = extra;
  return {
    autosize: true,
    paper_bgcolor: "rgba(0,0,0,0)",
    plot_bgcolor: "rgba(0,0,0,0)",
    font: { family: getComputedStyle(pageElement(".sol-page")).fontFamily, color: themeColour("text"),
      size: 12 },
    margin: { l: 46, r: yaxis2 ? 46 : 14, b: 36, ...margin, t: TOOLS_HEIGHT },
    showlegend: false,
    hovermode: "x unified",
    dragmode: "select",
    selectdirection: "h",
    hoverlabel: { bgcolor: themeColour("panel"), bordercolor: themeColour("edge"),
      font: { color: themeColour("text"), size: 12 } },
    selections: [],
    newselection: { line: { color: themeColour("accent"), width: 1, dash: "dot" } },
    modebar: { bgcolor: "rgba(0,0,0,0)", color: themeColour("muted"),
      activecolor: themeColour("accent") },
    xaxis: { ...axis, ...xaxis },
    yaxis: { ...axis, ...yaxis },
    ...(yaxis2 && { yaxis2: { ...axis, showgrid: false, overlaying: "y", side: "right",
      ...yaxis2 } }),
    ...rest,
  };
}

export const CHART_CONFIG = {
  displaylogo: false,
  responsive: false,
  doubleClick: "reset",
  displayModeBar: "hover",
  modeBarButtons: [["select2d", "zoom2d", "resetScale2d", "toImage"]],
};
