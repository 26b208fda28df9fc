// A generation on show: its status, the machine, tokens and charts.

import { ChartedStage } from "../charts/charts.js";
import { chip, fill, h, show } from "../dom.js";
import { Machine } from "../machine/machine.js";
import { leadParts } from "../page_parts.js";
import { cardParts, Dock, DockedCard, gridLevels } from "../tokens/card.js";
import { colourAxes, klAxis } from "../tokens/tokens.js";

export class RunStage extends ChartedStage {
  // options: as a ChartedStage's, and whatIf: a LensPanel that shares the card's place.
  /** @param {import("./status.js").Status} status */
  constructor(root, status, on, options) {
    super(root, [...colourAxes(), klAxis("KL to the full model")], on, options);
    this.status = status;
    this.view = this.addColumn(0, "Generated tokens", { looksFirst: true });
    this.panel = h("section", { class: "sol-panel sol-tokens", "aria-label": "Tokens" });
    this.dock = new Dock(this.panel, this.card, options.whatIf);
    this.machine = new Machine({ rows: () => this.view.rows, mark: (index) => this.step(index) });
  }

  makeCard(root) {
    return new DockedCard(root, (row) => {
      const came = this.view.origin(row, "given", "put in") || "taken";
      const [head, ...parts] = cardParts(row, this.levels, came);
      return [h("div", { class: "sol-dock-head" }, head, h("div", { class: "sol-tools" },
        this.on.pick && chip("What if?", () => this.on.pick(row.index)),
        chip("Close", () => this.card.hide()))), ...parts];
    });
  }

  // While what if is on show, another token is only marked: what was read and the machine stay as they are.
  enter(index, token, at) {
    if (this.dock.isHeld) super.mark(index);
    else super.enter(index, token, at);
  }

  leave() {
    if (this.dock.isHeld) super.mark(null);
    else super.leave();
  }

  hold(index) {
    this.dock.hold(this.view.elements[index]);
    this.mark(index);
  }

  mark(index, bringIntoView = false) {
    super.mark(index, bringIntoView);
    this.reading.mark(index);
    this.machine.mark(index);
  }

  step(index) {
    this.card.hide(); // now: a card that closes a moment later would take the mark along
    this.mark(index, true);
    this.view.makeCurrent(index);
  }

  /** @param {{ over?: Element, tools?: Element }} [parts] */
  build({ over, tools } = {}) {
    fill(this.panel, {}, [over, this.legend.element, this.reading.element,
      h("div", { class: "sol-token-place" }, this.view.element), this.dock.element, this.buildFoot(tools)]);
    return h("div", { class: "sol-stage" }, this.status.element, this.machine.element, this.panel,
      this.status.numbers, this.charts.element);
  }

  clear() {
    super.clear();
    this.view.clear();
    this.view.lead.replaceChildren();
    this.status.clear();
    this.machine.clear();
  }

  begin(run) {
    this.levels = gridLevels(run);
    this.view.given = run.config.given?.length ?? 0;
    this.machine.begin(run);
    this.charts.clear(run);
    this.view.lead.replaceChildren(...leadParts(run));
    this.followReading();
    this.legend.allow("kl", run.config.side_rows?.some((row) => row.name === "dense"),
      "The full model was not measured beside this run");
  }

  append(rows) {
    this.view.append(rows);
    this.charts.append(rows);
    this.machine.follow();
    this.followReading();
  }

  followReading() {
    this.reading.follow();
    show(this.view.lead, this.reading.element.hidden);
  }

  // Takes a poll but for its rows; the prompt's pages come once it was read. model: the loader's state.
  /** @param {View} view @param {Run} run @param {Model | null} model */
  update(view, run, model) {
    const { pages, prefill } = view;
    if (prefill && pages?.length && !this.reading.pages.length) {
      this.reading.begin(run.config.grid?.page_size ?? 8, pages, prefill.prompt_tokens, run.config.left_out);
      this.followReading();
    }
    this.status.showRun(this.view.rows, view, run, model);
  }

  finish() {
    this.charts.finish();
  }
}
