// The exported run: what happened, token by token, with the page's own parts and nothing to wait for.

class SharedRun {
  constructor(root, view) {
    this.view = view;
    const { run, rows } = view;
    const axes = colourAxes(PAGE.limits);
    this.status = new Status({ retry() {}, backToLive() {} });
    this.card = new TokenCard(root, (row) => cardParts(row, gridLevels(run)));
    this.tokens = new TokenView(axes, {
      enter: (index, token) => this.enter(index, token), leave: () => this.card.hideSoon(),
      select: (range) => this.select(range), pick() {},
    });
    this.card.onHide = () => this.mark(null);
    const on = { hover: (index) => this.mark(index, true), leave: () => this.mark(null) };
    this.charts = [spendChart, qualityChart].map((spec) => new SvgChart(spec, on));
    this.summary = h("p", { class: "sol-selection", "aria-live": "polite" });
    const legend = new Legend(axes, (axis) => this.tokens.setAxis(axis));
    root.append(sharedHead(run), h("div", { class: "sol-stage" }, this.status.element,
      h("section", { class: "sol-panel sol-tokens", "aria-label": "Tokens" }, legend.element,
        h("div", { class: "sol-token-place" }, this.tokens.element),
        h("footer", { class: "sol-token-foot" }, this.summary)),
      h("div", { class: "sol-charts" }, this.charts.map((chart) => chart.element)), sharedSettings(run)));
    this.tokens.lead.append(...leadParts(run));
    this.tokens.append(rows);
    this.tokens.element.scrollTop = 0;
    this.status.add(rows);
    this.status.update(view, run, null);
    this.draw(run, rows);
    this.select(null);
    addEventListener("keydown", (event) => event.key === "Escape" && this.select(null));
  }

  draw(run, rows) {
    const data = emptySeries(run);
    rows.forEach((row) => extendSeries(data, row));
    data.ended = true;
    this.charts.forEach((chart) => chart.draw(data));
  }

  enter(index, token) {
    this.card.show(this.tokens.rows[index], token);
    this.mark(index);
  }

  mark(index, bringIntoView = false) {
    this.tokens.mark(index, bringIntoView);
    this.charts.forEach((chart) => chart.mark(index));
  }

  select(range) {
    this.tokens.select(range);
    this.charts.forEach((chart) => chart.setSelection(range));
    setText(this.summary, range ? selectionText(this.tokens.rows, range)
      : "Hover a token, or focus the text and use the arrow keys. Shift and an arrow selects; Escape clears.");
  }
}

function sharedHead(run) {
  return h("header", { class: "sol-header" },
    h("span", { class: "sol-mark", "aria-hidden": "true" }, h("i"), h("i"), h("i")),
    h("div", {}, h("h1", { dir: "auto" }, run.title),
      h("p", {}, `${modelName(run.model)}, ${new Date(run.created_at).toLocaleString([],
        { dateStyle: "long", timeStyle: "short" })}. Exported from SOL Explorer; everything is in this file.`)));
}

// Every setting by its path; levels of the grid are shortened to their ends.
function settingRows(value, path = "") {
  const isList = Array.isArray(value);
  if (isList && value.length && value.every(isNumber)) return [[path, `${value[0]} to ${value.at(-1)}`]];
  if (value === null || typeof value !== "object") return [[path, String(value ?? MISSING)]];
  return Object.entries(value).flatMap(([key, item]) => settingRows(item, path ? `${path}.${key}` : key));
}

function sharedSettings(run) {
  return h("details", { class: "sol-panel sol-shared-settings" }, h("summary", {}, "Settings of this run"),
    h("dl", {}, settingRows(run.config).map(([name, value]) =>
      [h("dt", {}, name), h("dd", { dir: "auto" }, value)])));
}

new SharedRun(document.querySelector("main"), JSON.parse(document.getElementById("sol-data").textContent));
