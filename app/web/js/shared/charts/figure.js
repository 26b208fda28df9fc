// A figure: a chart with a one-line reading aid. Unlike the live charts of Explore it selects nothing;
// dragging zooms.

import { show } from "../dom.js";
import { glossed } from "../glossary.js";
import { CHART_CONFIG } from "./plotly.js";
import { PlotlyChart } from "./plotly_chart.js";

const FIGURE_CONFIG = { ...CHART_CONFIG, modeBarButtons: [["zoom2d", "resetScale2d"]] };
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
