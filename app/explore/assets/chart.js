// One live chart: title, a legend that hides lines, a plot over arrays that somebody else keeps.
// A redraw is one Plotly.react.

class Chart {
  // spec: {title, empty, keys, layout(data), traces(data), config}; on: {hover, leave, select}
  constructor(spec, on) {
    this.spec = spec;
    this.on = on;
    this.hidden = new Set();
    this.plot = h("div", { class: "sol-plot", role: "group",
      "aria-label": `${spec.title}: chart` });
    this.marker = h("div", { class: "sol-marker", "aria-hidden": "true", hidden: true });
    this.band = h("div", { class: "sol-band", "aria-hidden": "true", hidden: true });
    this.empty = h("p", { class: "sol-empty-chart" }, spec.empty);
    this.note = h("p", { class: "sol-chart-note", hidden: true });
    this.legend = h("div", { class: "sol-chart-legend", role: "group",
      "aria-label": `${spec.title}: lines` }, spec.keys.map((key) => this.legendKey(key)));
    this.element = h("section", { class: "sol-panel sol-chart" },
      h("header", {}, h("div", { class: "sol-chart-title" }, h("h2", {}, spec.title),
        imageMenu(spec.title, (form) => this.image(form), (message) => this.fail(message))),
        this.legend),
      h("div", { class: "sol-plot-place" }, this.plot, this.band, this.marker,
        this.empty), this.note);
    new ResizeObserver(() => this.resize()).observe(this.plot);
  }

  legendKey(key) {
    return h("button", { type: "button", class: "sol-key", "aria-pressed": "true",
      "data-colour": key.colour, "data-dash": key.dash, "--key": `var(--sol-${key.colour})`,
      onclick: (event) => {
        if (!this.hidden.delete(key.id)) this.hidden.add(key.id);
        event.currentTarget.setAttribute("aria-pressed", String(!this.hidden.has(key.id)));
        this.redraw();
      } }, h("i", { "aria-hidden": "true" }), key.name);
  }

  // The chart as a data URL, with its title and a legend that the page has around it.
  async image(form) {
    if (!this.data?.x.length) throw new Error("There is nothing to save yet.");
    const plotly = await loadPlotly();
    const names = Object.fromEntries(this.spec.keys.map((key) => [key.id, key.name]));
    const named = new Set();
    const data = this.plot.data.map((trace) => {
      const isFirst = names[trace.meta] && !named.has(trace.meta);
      named.add(trace.meta);
      return { ...trace, name: names[trace.meta] ?? "", showlegend: Boolean(isFirst) };
    });
    const layout = { ...this.plot.layout, paper_bgcolor: themeColour("panel"), showlegend: true,
      legend: { orientation: "h", y: -0.18 }, margin: { ...this.plot.layout.margin, t: 44, b: 72 },
      title: { text: this.spec.title, font: { size: 15 }, x: 0.02 } };
    return plotly.toImage({ data, layout }, { format: form, width: 900, height: 420, scale: 2 });
  }

  async draw(data) {
    this.data = data;
    const plotly = await loadPlotly();
    if (!this.element.isConnected || !this.plot.offsetWidth || data !== this.data) return;
    show(this.empty, data.x.length === 0);
    const layout = chartLayout(this.spec.layout(data));
    const traces = this.spec.traces(data).map((trace) => ({
      type: "scatter", ...trace,
      visible: !this.hidden.has(trace.meta),
    }));
    await plotly.react(this.plot, traces, layout, this.spec.config || CHART_CONFIG);
    if (!this.listening) this.listen();
    this.placeMarker();
  }

  redraw() {
    if (this.data) this.draw(this.data).catch((error) => this.fail(error.message));
  }

  fail(message) {
    setText(this.empty, message);
    show(this.empty, true);
  }

  // Nothing to show yet. The empty axes are drawn behind the words, when the browser has time,
  // so that the first tokens need not wait for that.
  reset(data) {
    this.data = data;
    setText(this.empty, this.spec.empty);
    show(this.empty, true);
    this.mark(null);
    whenIdle(() => data === this.data && this.redraw());
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

  mark(index) {
    this.index = index;
    this.placeMarker();
  }

  // A line and a band of our own over the plot: moving them redraws nothing.
  placeMarker() {
    const at = isNumber(this.index) ? this.index + 1 : null;
    this.lay(this.marker, at, at);
    this.lay(this.band, this.range ? this.range[0] + 0.5 : null,
      this.range ? this.range[1] + 1.5 : null);
  }

  // Where the plotted area lies, and how a token's number becomes a distance from its left edge.
  frame() {
    const { xaxis, _size: size } = this.plot._fullLayout ?? {};
    return xaxis && size ? { left: size.l, top: size.t, width: size.w, height: size.h,
      x: (value) => xaxis.l2p(value) } : null;
  }

  lay(mark, from, to) {
    const frame = from === null ? null : this.frame();
    const left = frame ? Math.max(frame.x(from), 0) : 0;
    const right = frame ? Math.min(frame.x(to), frame.width) : -1;
    show(mark, right >= left);
    if (right < left) return;
    mark.style.left = `${frame.left + left}px`;
    mark.style.width = `${right - left}px`;
    mark.style.top = `${frame.top}px`;
    mark.style.height = `${frame.height}px`;
  }

  // Shows a selection as a band of our own; the box that the pointer drew goes away.
  async setSelection(range) {
    this.range = range;
    this.placeMarker();
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
