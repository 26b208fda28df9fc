// A chart over the tokens of a run, drawn as SVG. Colours are variables: the theme needs no redraw.

import { h, setChildren, show, svg, uniqueId, watchPointer } from "../dom.js";
import { isNumber } from "../format.js";
import { Chart } from "./chart.js";

const DASHES = { dash: "6 4", dot: "2 3" };
const AROUND = { left: 64, right: 14, top: 8, bottom: 34 }; // px beside the lines

function niceTicks(low, high) {
  const rough = (high - low) / 4 || 1;
  const power = 10 ** Math.floor(Math.log10(rough));
  const step = [1, 2, 5].map((factor) => factor * power).find((one) => one >= rough) ?? 10 * power;
  const ticks = [];
  for (let at = Math.ceil(low / step); at * step <= high + step * 1e-6; at += 1) ticks.push(at * step);
  return ticks;
}

// grows: beyond its range, where a value is above it.
function valueScale({ range, grows, title, ...scale }, lines) {
  const top = 1.06 * Math.max(...lines.flatMap((line) => line.y).filter(isNumber), 1e-3);
  const [low, high] = range ? [range[0], grows ? Math.max(range[1], top) : range[1]] : [0, top];
  const ticks = scale.ticks ?? niceTicks(low, high);
  return { low, high, title, ticks, texts: scale.texts ?? ticks.map((tick) => String(+tick.toPrecision(6))) };
}

// Where a chart's lines lie, and how a token and a value become a place there: px.
function areaOf(wide, tall, [from, to], { low, high }) {
  const { left, top } = AROUND;
  const [width, height] = [wide - left - AROUND.right, tall - top - AROUND.bottom];
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

function lineOf(area, { x, y, colour, width, dash, opacity, isStepped, isFilled }) {
  const { left, top, height } = area;
  let path = "";
  let last = null;
  x.forEach((token, at) => {
    if (!isNumber(y[at])) { last = null; return; }
    const [right, down] = [left + area.x(token), area.y(y[at])].map((one) => one.toFixed(1));
    if (last === null) path += `M${right} ${down}`;
    else if (isStepped) path += `H${((+last + +right) / 2).toFixed(1)}V${down}H${right}`;
    else path += `L${right} ${down}`;
    last = right;
  });
  const [begin, end] = [x[0], x.at(-1)].map((token) => (left + area.x(token)).toFixed(1));
  return [isFilled && path && svg("path", { d: `${path}L${end} ${top + height}H${begin}Z`, fill: colour,
    "fill-opacity": 0.35 }),
  svg("path", { d: path, fill: "none", stroke: colour, "stroke-width": width,
    "stroke-dasharray": DASHES[dash], "stroke-linejoin": "round", opacity })];
}

const dotsOf = (area, { x, y, colour, dot }) => x.map((token, at) => svg("circle", { r: dot, fill: colour,
  cx: (area.left + area.x(token)).toFixed(1), cy: area.y(y[at]).toFixed(1) }));

/** While streaming, to the next power of two, so that it rarely moves. @returns {[number, number]} */
function tokenRange(data) {
  const seen = data.x.length;
  if (data.ended) return [0.5, Math.max(seen, 2) + 0.5];
  const room = Math.max(32, 2 ** Math.ceil(Math.log2(seen * 1.02 + 1)));
  return [0.5, Math.max(Math.min(room, data.limit), 2) + 0.5];
}

export class SvgChart extends Chart {
  /** @type {ReturnType<typeof areaOf> | null} */
  area = null;

  // spec: as of a Chart, with scale: of the values, and lines(data): {id, x, y, colour, width, dash, opacity,
  // dot: radius, say(value, at)}; on: {mark(index): null: none, select(range)}
  constructor(spec, on) {
    super(spec);
    this.on = on;
    this.clip = uniqueId("clip");
    this.marker = h("div", { class: "sol-marker", "aria-hidden": "true", hidden: true });
    this.band = h("div", { class: "sol-band", "aria-hidden": "true", hidden: true });
    this.readout = h("div", { class: "sol-readout", "aria-hidden": "true", hidden: true });
    this.plot.after(this.band, this.marker);
    this.empty.after(this.readout);
    watchPointer(this.plot, (event) => this.indexAt(event), { select: on.select, mark: (index) => {
      this.tell(index);
      on.mark(index);
    } });
  }

  setSpec(spec) {
    this.spec = spec;
    this.legend.replaceChildren(...spec.keys.map((key) => this.legendKey(key)));
    this.redraw();
  }

  reset(data) {
    super.reset(data);
    this.mark(null);
  }

  async draw() {
    this.begin();
    const { data, spec, plot: { offsetWidth: width, offsetHeight: height } } = this;
    if (!width) return;
    this.lines = spec.lines(data).filter((line) => !this.hidden.has(line.id))
      .map((line) => ({ ...line, colour: `var(--sol-${line.colour})` }));
    const scale = valueScale(spec.scale, this.lines);
    const tokens = tokenRange(data);
    const area = this.area = areaOf(width, height, tokens, scale);
    this.plot.replaceChildren(svg("svg", { width, height, viewBox: `0 0 ${width} ${height}`,
      "aria-hidden": "true" }, gridOf(area, scale), tokenTicks(area, tokens),
    // A scale may leave out a line's first jumps.
    svg("clipPath", { id: this.clip },
      svg("rect", { x: area.left, y: area.top - 2, width: area.width, height: area.height + 3 })),
    svg("g", { "clip-path": `url(#${this.clip})` },
      this.lines.map((line) => (line.dot ? dotsOf(area, line) : lineOf(area, line))))));
    this.placeMarker();
  }

  indexAt(event) {
    if (!this.area || !this.data.x.length) return null;
    const x = event.clientX - this.plot.getBoundingClientRect().left - AROUND.left;
    return Math.min(Math.max(this.area.token(x), 1), this.data.x.length) - 1;
  }

  tell(index) {
    show(this.readout, index !== null);
    if (!this.area || index === null) return;
    const lines = this.lines.filter((line) => line.say).map((line) => {
      const at = line.x.indexOf(index + 1);
      return at >= 0 && isNumber(line.y[at]) && h("span", {}, line.say(line.y[at], at));
    });
    setChildren(this.readout, h("b", {}, `Token ${index + 1}`), lines);
    this.readout.classList.toggle("is-left", this.area.x(index + 1) > this.area.width / 2);
  }

  mark(index) {
    this.index = index;
    this.placeMarker();
  }

  setSelection(range) {
    this.range = range;
    this.placeMarker();
  }

  placeMarker() {
    this.lay(this.marker, isNumber(this.index) ? [this.index + 1, this.index + 1] : null);
    this.lay(this.band, this.range ? [this.range[0] + 0.5, this.range[1] + 1.5] : null);
  }

  lay(mark, ends) {
    const { area } = this;
    show(mark, Boolean(area && ends));
    if (!area || !ends) return;
    const [left, right] = ends.map((end) => Math.min(Math.max(area.x(end), 0), area.width));
    const box = { left: area.left + left, width: right - left, top: area.top, height: area.height };
    for (const [side, value] of Object.entries(box)) mark.style[side] = `${value}px`;
  }
}
