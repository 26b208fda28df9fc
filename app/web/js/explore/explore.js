// Puts the page together and ties its parts: form, status, tokens, card, charts, address bar.

import { setAddress } from "../shared/address.js";
import { makeApi } from "../shared/api.js";
import { Charts } from "../shared/charts/charts.js";
import { PlotlyChart } from "../shared/charts/plotly_chart.js";
import { bringIntoView, copyText, h, setText, show } from "../shared/dom.js";
import { exportMenu } from "../shared/download.js";
import { listen, takeOver } from "../shared/events.js";
import { POLICY_PREFIX } from "../shared/forms/schedule_field.js";
import { LensPanel } from "../shared/lens/lens.js";
import { emptyState, flash, leadParts, noticeLine, selectionText } from "../shared/page_parts.js";
import { RunPage } from "../shared/runs/run_page.js";
import { Status } from "../shared/runs/status.js";
import { cardParts, TokenCard } from "../shared/tokens/card.js";
import { gridLevels } from "../shared/tokens/card_policy.js";
import { Legend } from "../shared/tokens/legend.js";
import { colourAxes, TokenView } from "../shared/tokens/tokens.js";
import { Controls } from "./controls.js";
import { Estimate } from "./estimate.js";

const HINT = "Hover a token, or focus the text and use the arrow keys. Click one (or Enter) to ask what if. "
  + "Drag over a chart to select.";

class ExplorePage extends RunPage {
  constructor(root, api, page) {
    super(root, api, "run");
    this.axes = colourAxes();
    this.form = new Controls(page, {
      generate: (prompt, settings) => this.generate(prompt, settings), stop: () => this.stop(),
      policies: async () => (await api("list_policies", {})).policies,
    });
    this.status = new Status({
      retry: () => this.retryModel(), backToLive: () => this.open(this.liveId, "push"),
    });
    this.card = new TokenCard(root, (row) => cardParts(row, this.levels));
    this.tokens = new TokenView(this.axes, {
      enter: (index, token) => this.enter(index, token),
      leave: () => this.card.hideSoon(),
      select: (range) => this.select(range),
      pick: (index) => this.pick(index),
    });
    this.lens = new LensPanel(api, { close: () => this.unpick(),
      show: () => setAddress({ [this.names.lens]: this.lens.shown }) });
    this.charts = new Charts(PlotlyChart, {
      hover: (index) => this.tokens.mark(index, true) ?? this.charts.mark(index),
      leave: () => { this.tokens.mark(null); this.charts.mark(null); },
      select: (range) => this.select(this.within(range)),
    });
    this.card.onHide = () => { this.tokens.mark(null); this.charts.mark(null); };
    this.estimate = new Estimate(api, page.estimate);
    this.legend = new Legend(this.axes, (axis, isChosen) => {
      this.tokens.setAxis(axis);
      if (isChosen) setAddress({ [this.names.colour]: axis.key });
    });
    this.follower = this.follow({ begin: (run) => this.begin(run), rows: (rows) => this.rows(rows) });
    root.append(this.build());
    this.reset();
  }

  build() {
    this.summary = h("p", { class: "sol-selection", "aria-live": "polite" }, HINT);
    this.unselect = h("button", { type: "button", class: "sol-chip", hidden: true,
      onclick: () => this.select(null) }, "Clear selection");
    this.link = h("button", { type: "button", class: "sol-chip", onclick: () => this.copyLink() },
      "Copy link");
    this.text = h("button", { type: "button", class: "sol-chip", onclick: () => this.copyRun() },
      "Copy text");
    this.reuse = h("button", { type: "button", class: "sol-chip", onclick: () => this.reuseRun() },
      "Use its settings");
    this.export = exportMenu(this.api, "run", () => this.follower.id,
      (message) => this.status.say(message, "bad"));
    this.tools = h("div", { class: "sol-tools" }, this.link, this.text, this.reuse, this.export);
    this.empty = emptyState();
    const tokens = h("section", { class: "sol-panel sol-tokens", "aria-label": "Tokens" },
      this.legend.element,
      h("div", { class: "sol-token-place" }, this.tokens.element, this.empty),
      h("footer", { class: "sol-token-foot" }, this.summary, this.unselect, this.tools));
    this.notices = h("div", { class: "sol-notices" });
    return h("div", { class: "sol-grid" }, this.notices, this.form.element,
      h("div", { class: "sol-stage" }, this.status.element, tokens, this.lens.element,
        h("div", { class: "sol-charts" }, this.charts.spend.element, this.charts.quality.element),
        this.estimate.element));
  }

  // --- life of a run ------------------------------------------------------------------------

  start() {
    listen("open-run", (detail) => this.open(detail, "push"));
    listen("policies-changed", () => this.form.fields.schedule.update());
    // The tab comes into view: a policy that was trained meanwhile is there.
    new IntersectionObserver((entries) => entries.at(-1).isIntersecting
      && this.form.fields.schedule.update()).observe(this.root);
    takeOver("use-policy", (name) => this.usePolicy(name));
    addEventListener("keydown", (event) => {
      if (event.key === "Escape" && this.card.element.hidden && this.tokens.range) {
        this.select(null);
      }
    });
    this.takeUp();
  }

  async generate(prompt, settings) {
    if (await this.ask("start_run", { prompt, settings })) bringIntoView(this.status.element);
  }

  usePolicy(name) {
    this.form.fields.schedule.set(POLICY_PREFIX + name);
    this.form.changed();
  }

  clear() {
    this.card.hide();
    this.tokens.clear();
    this.lens.clear();
    this.tokens.lead.replaceChildren();
    this.status.clear();
    this.estimate.clear();
    this.status.setBar(null);
    this.charts.clear(null);
    show(this.status.retry, false);
    this.tools.classList.add("is-idle");
    this.select(null);
  }

  begin(run) {
    this.levels = gridLevels(run);
    this.charts.clear(run);
    this.charts.data.id = run.id;
    this.tokens.lead.replaceChildren(...leadParts(run));
    this.tools.classList.remove("is-idle");
    this.reuse.disabled = run.settings === null;
  }

  rows(rows) {
    this.tokens.append(rows);
    this.status.add(rows);
    this.charts.append(rows);
  }

  draw(view, run) {
    this.tokens.element.classList.toggle("is-live", view.live && view.status === "running");
    this.status.update(view, run, this.model);
    this.estimate.follow(this.status.tally, run, view.live);
  }

  finish() {
    this.charts.finish();
  }

  async home(call) {
    const home = await super.home(call);
    if (home && !this.noticed) {
      this.notices.append(...home.notices.map(noticeLine));
      this.noticed = true;
    }
    return home;
  }

  async watchModel() {
    await super.watchModel();
    this.estimate.refresh(true);
  }

  // --- looking ------------------------------------------------------------------------------

  enter(index, token) {
    this.card.show(this.tokens.rows[index], token);
    this.tokens.mark(index);
    this.charts.mark(index);
  }

  pick(index) {
    const { run } = this.follower;
    if (!run || !gridLevels(run)) return;
    this.tokens.pick(index);
    this.picked(String(index + 1));
    this.lens.open(run, this.liveId === run.id, this.tokens.rows, index);
  }

  markNone() {
    this.tokens.pick(null);
  }

  placeOf(text) {
    const index = Number(text) - 1;
    return this.tokens.elements[index] ? [index] : null;
  }

  pickAt([index]) {
    this.tokens.makeCurrent(index);
    this.tokens.reveal(this.tokens.elements[index]);
    this.pick(index);
  }

  within(range) {
    if (range === null) return null;
    const last = this.tokens.rows.length - 1;
    const clipped = [Math.max(range[0], 0), Math.min(range[1], last)];
    return clipped[0] <= clipped[1] ? clipped : null;
  }

  select(range) {
    this.tokens.select(range);
    if (String(range) !== String(this.selected ?? null)) this.charts.setSelection(range);
    this.selected = range;
    setText(this.summary, range ? selectionText(this.tokens.rows, range) : HINT);
    show(this.unselect, range !== null);
  }

  async copyRun() {
    await copyText(this.tokens.rows.map((row) => row.text).join(""));
    flash(this.text, "Copied");
  }

  reuseRun() {
    const { run } = this.follower;
    this.form.set(run.prompt, run.settings);
    flash(this.reuse, "In the form");
  }
}

export function mount(root, server, page) {
  new ExplorePage(root, makeApi(server), page).start();
}
