// A chart of the page's specification, drawn as SVG. Colours are variables: the theme needs no redraw.

import { Chart } from "../shared/charts/chart.js";
import { h, show, svg, uniqueId } from "../shared/dom.js";
import { fixed, isNumber } from "../shared/format.js";

const variable = (name) => `var(--sol-${name})`;
const DASHES = { dash: "6 4", dot: "2 3" };
const MARGIN = { left: 46, right: 14, top: 8, bottom: 34 };

function niceTicks(low, high) {
  const rough = (high - low) / 4 || 1;
  const power = 10 ** Math.floor(Math.log10(rough));
  const step = [1, 2, 5].map((factor) => factor * power).find((one) => one >= rough) ?? 10 * power;
  const ticks = [];
  for (let at = Math.ceil(low / step); at * step <= high + step * 1e-6; at += 1) ticks.push(at * step);
  return ticks;
}

function valueScale(axis, traces) {
  const known = traces.flatMap((trace) => trace.y).filter(isNumber);
  const [low, high] = axis.range ?? [0, 1.06 * Math.max(...known, 1e-3)];
  const ticks = axis.tickvals ?? niceTicks(low, high);
  const texts = axis.ticktext ?? ticks.map((tick) => String(+tick.toPrecision(6)));
  return { low, high, ticks, texts, title: axis.title?.text };
}

// "%{y:.3f}" and "%{customdata:.1f}" of a Plotly template, for one point.
function pointText(trace, at) {
  const values = { y: trace.y[at], customdata: trace.customdata?.[at] };
  return trace.hovertemplate.replace("<extra></extra>", "")
    .replace(/%\{(y|customdata):\.(\d)f\}/g, (_, name, digits) => fixed(values[name], Number(digits)));
}

/** Where a chart's lines lie, and how a token and a value become a place there: px.
 * @typedef {ReturnType<typeof areaOf>} Area */
function areaOf(wide, tall, [from, to], { low, high }) {
  const { left, top } = MARGIN;
  const [width, height] = [wide - left - MARGIN.right, tall - top - MARGIN.bottom];
  return { left, top, width, height, x: (value) => (width * (value - from)) / (to - from),
    token: (x) => Math.round(from + (x * (to - from)) / width),
    y: (value) => top + height * (1 - (value - low) / (high - low)) };
}

function gridOf(area, scale) {
  return svg("g", { class: "sol-chart-scale" }, scale.ticks.map((tick, at) => [
    svg("path", { d: `M${area.left} ${area.y(tick).toFixed(1)}H${area.left + area.width}` }),
    svg("text", { x: area.left - 7, y: area.y(tick) + 4, "text-anchor": "end" }, scale.texts[at])]),
  scale.title && svg("text", { "text-anchor": "middle",
    transform: `translate(10 ${area.top + area.height / 2}) rotate(-90)` }, scale.title));
}

function tokenTicks({ left, top, width, height, x }, [from, to]) {
  const base = top + height;
  return svg("g", { class: "sol-chart-scale" },
    niceTicks(Math.max(from, 1), to).filter((tick) => tick % 1 === 0).map((tick) =>
      svg("text", { x: left + x(tick), y: base + 15, "text-anchor": "middle" }, tick)),
    svg("text", { x: left + width / 2, y: base + 30, "text-anchor": "middle" }, "token"));
}

function lineOf(area, trace) {
  const { left, top, height } = area;
  let path = "";
  let last = null;
  trace.x.forEach((x, at) => {
    if (!isNumber(trace.y[at])) { last = null; return; }
    const [right, down] = [left + area.x(x), area.y(trace.y[at])].map((one) => one.toFixed(1));
    if (last === null) path += `M${right} ${down}`;
    else if (trace.line.shape === "hvh") path += `H${((+last + +right) / 2).toFixed(1)}V${down}H${right}`;
    else path += `L${right} ${down}`;
    last = right;
  });
  const ends = [trace.x[0], trace.x.at(-1)].map((x) => (left + area.x(x)).toFixed(1));
  return [trace.fill && path && svg("path", { d: `${path}L${ends[1]} ${top + height}H${ends[0]}Z`,
    fill: trace.line.color, "fill-opacity": 0.35 }),
  svg("path", { d: path, fill: "none", stroke: trace.line.color, "stroke-width": trace.line.width,
    "stroke-dasharray": DASHES[trace.line.dash], "stroke-linejoin": "round", opacity: trace.opacity })];
}

const dotsOf = (area, trace) => trace.x.map((x, at) => svg("circle", { cx: (area.left + area.x(x)).toFixed(1),
  cy: area.y(trace.y[at]).toFixed(1), r: trace.marker.size / 2, fill: trace.marker.color }));

export class SvgChart extends Chart {
  /** @type {Area | null} */
  area = null;

  constructor(spec, on) {
    super(spec, on);
    this.clip = uniqueId("clip");
    this.readout = h("div", { class: "sol-readout", "aria-hidden": "true", hidden: true });
    this.plot.parentElement.append(this.readout);
    this.plot.addEventListener("pointermove", (event) => this.point(event));
    this.plot.addEventListener("pointerleave", () => { show(this.readout, false); this.on.leave(); });
  }

  async draw(data) {
    this.data = data;
    const { offsetWidth: width, offsetHeight: height } = this.plot;
    if (!width) return;
    this.begin(data);
    const layout = this.spec.layout(data);
    this.traces = this.spec.traces(data, variable).filter((trace) => !this.hidden.has(trace.meta));
    const scale = valueScale(layout.yaxis, this.traces);
    const tokens = layout.xaxis.range;
    const area = this.area = areaOf(width, height, tokens, scale);
    this.plot.replaceChildren(svg("svg", { width, height, viewBox: `0 0 ${width} ${height}`,
      "aria-hidden": "true" }, gridOf(area, scale), tokenTicks(area, tokens),
    // A scale may leave out a line's first jumps.
    svg("clipPath", { id: this.clip },
      svg("rect", { x: area.left, y: area.top - 2, width: area.width, height: area.height + 3 })),
    svg("g", { "clip-path": `url(#${this.clip})` },
      this.traces.map((trace) => (trace.mode === "markers" ? dotsOf(area, trace) : lineOf(area, trace))))));
    this.placeMarker();
  }

  frame() {
    return this.area;
  }

  point(event) {
    const { area } = this;
    if (!area || !this.data.x.length) return;
    const x = event.clientX - this.plot.getBoundingClientRect().left - area.left;
    const token = Math.min(Math.max(area.token(x), 1), this.data.x.length);
    this.on.hover(token - 1);
    const lines = this.traces.filter((trace) => trace.hovertemplate).map((trace) => {
      const at = trace.x.indexOf(token);
      return at >= 0 && isNumber(trace.y[at]) && h("span", {}, pointText(trace, at));
    });
    this.readout.replaceChildren(h("b", {}, `Token ${token}`), ...lines.filter(Boolean));
    this.readout.classList.toggle("is-left", x > area.width / 2);
    show(this.readout, true);
  }
}
