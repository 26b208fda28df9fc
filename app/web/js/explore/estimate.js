// "What would this cost on …": the roofline's floors for GPUs that are not here. Estimates, asked
// for when the panel is open, at the mean spend of the run on show.

import { reasonOf } from "../shared/api.js";
import { h, headRow, selectOf, setText, uniqueId } from "../shared/dom.js";
import { count, modelName, percent } from "../shared/format.js";
import { glossed } from "../shared/glossary.js";

const ESTIMATE_EVERY_MS = 1000;

export class Estimate {
  // known: the contexts and cards to choose from, and what is chosen at first
  constructor(api, known) {
    this.api = api;
    this.known = known;
    this.last = -Infinity; // when it was asked: ms
    this.context = selectOf(known.contexts.map((tokens) => [tokens, count(tokens, "token")]),
      { onchange: () => this.refresh(true) });
    this.context.value = this.known.context;
    this.context.id = uniqueId("field");
    this.spend = h("p", { class: "sol-hint" });
    this.body = h("tbody");
    this.table = h("table", { class: "sol-estimate-table" },
      h("caption", { class: "sol-offscreen" }, "Estimated milliseconds per token"),
      headRow(["Model", ...known.cards.map((card) => [card, h("small", {}, "dense → this run")])]),
      this.body);
    this.element = h("details", { class: "sol-panel sol-estimate", ontoggle: () => this.refresh(true) },
      h("summary", {}, "What would this cost on …", h("small", {}, "A100 or H100, estimated")),
      h("div", { class: "sol-estimate-head" },
        h("div", { class: "sol-field" }, h("label", { for: this.context.id }, "Context"), this.context),
        this.spend),
      this.table,
      h("p", { class: "sol-hint" }, h("b", {}, "Estimate, memory- and compute-bound floor (", glossed("[[roofline]]"), "), not measured."),
        " Milliseconds per token of one text in 16 bits, at full bandwidth and without launch "
        + "overhead. Bits of the activations change nothing here."));
    this.clear();
  }

  clear() {
    this.asked = { keep: 1, channels: 1, grid: {} };
    this.hasRun = false;
    this.refresh(true);
  }

  // The run goes on: its spend so far.
  follow(tally, run, isLive) {
    if (!run || !tally.rows) return;
    const [keep, channels] = [0, 1].map((at) => +Math.min(tally.mean(at), 1).toFixed(3));
    this.asked = { keep, channels, grid: run.config.grid ?? {} };
    this.hasRun = true;
    this.refresh(!isLive);
  }

  async refresh(now) {
    const { asked } = this;
    if (!asked || !this.element.open) return;
    const request = { ...asked, context: Number(this.context.value) };
    const key = JSON.stringify([request, this.hasRun]);
    if (key === this.shown || (!now && performance.now() - this.last < ESTIMATE_EVERY_MS)) return;
    this.shown = key;
    this.last = performance.now();
    try {
      const { rows } = await this.api("estimate_costs", request);
      if (key === this.shown) this.draw(rows, asked);
      if (!rows.length) this.shown = null;
    } catch (error) {
      this.shown = null;
      this.say(reasonOf(error, "The server does not answer. Close and open this again."));
    }
  }

  draw(rows, { keep, channels }) {
    this.say(!rows.length ? "The model is still loading." : this.hasRun
      ? `This run's mean spend: attention ${percent(keep)}, channels ${percent(channels)}.`
      : "Generate something to see what its spend would save.");
    this.body.replaceChildren(...rows.map((row) => h("tr", {},
      h("th", { scope: "row" }, modelName(row.model), row.is_loaded && h("small", {}, "this model")),
      this.known.cards.map((card) => this.cell(row.cards?.[card])))));
  }

  cell(floor) {
    if (!floor) return h("td", {}, h("small", {}, "more than its context"));
    const dense = h("span", { class: "sol-muted" }, floorText(floor.dense_ms));
    if (!this.hasRun) return h("td", {}, dense, h("small", {}, "ms"));
    const [less, share] = [floor.saved >= 0, Math.abs(floor.saved)];
    return h("td", {}, h("span", { class: "sol-floors" }, dense, " → ",
      h("b", {}, floorText(floor.spend_ms)), " ms"),
    h("span", { class: "sol-meter", "aria-hidden": "true", "--v": floor.spend_ms / floor.dense_ms }),
    h("small", {}, `${percent(share, 1)} ${less ? "saved" : "more"}`));
  }

  say(text) {
    setText(this.spend, text);
  }
}

const floorText = (ms) => ms.toPrecision(3);
