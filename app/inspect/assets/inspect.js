// Puts the Inspect page together: form, status with the schedules compared, tokens, lens, charts,
// difficulty report, address bar.

const HINT = "Hover a token, or focus the text and use the arrow keys. Click one (or Enter) to ask what if.";
const TABLE_NOTE = "Means per token: NLL and KL measured, in nats; bytes computed.";
const INSPECT_STATES = { prefill: ["Reading the text", "busy"], running: ["Scoring", "busy"] };

class InspectPage {
  constructor(root, api, showTab) {
    this.root = root;
    this.api = api;
    this.showTab = showTab;
    this.form = new InspectForm({
      start: (request) => this.begin(request), stop: () => this.stop(),
      policies: async () => (await api("list_policies", {})).policies,
      runs: async () => (await api("saved_runs", {})).runs,
    });
    this.status = new StatusLine({
      retry: () => this.retryModel(), backToLive: () => this.open(this.liveId, "push"),
    }, INSPECT_STATES, "Show the running inspection");
    this.totals = new Totals();
    this.card = new TokenCard(root, (row) => cardParts(row, this.levels));
    const axes = [...colourAxes(PAGE.limits), differenceAxis];
    this.panes = new TokenPanes(axes, {
      enter: (index, token, at) => this.enter(index, token, at),
      leave: () => this.card.hideSoon(),
      select: (range) => this.select(range),
      pick: (index, at) => this.pick(index, at),
      show: (at) => this.showRow(at),
    });
    this.lens = new LensPanel(api, { close: () => this.panes.pick(null) });
    this.charts = new Charts({
      hover: (index) => this.panes.mark(index, true) ?? this.charts.mark(index),
      leave: () => { this.panes.mark(null); this.charts.mark(null); },
      select: (range) => this.select(this.within(range)),
    });
    this.card.onHide = () => { this.panes.mark(null); this.charts.mark(null); };
    this.difficulty = new Difficulty((index) => this.panes.focus(index));
    this.legend = new Legend(axes, (axis) => this.panes.setAxis(axis), "inspectAxis");
    this.follower = new RunFollower(api, {
      begin: (run) => this.began(run), rows: (rows) => this.rows(rows),
      view: (view, run) => this.view(view, run), lost: () => this.lost(),
      gone: (error) => this.gone(error),
    });
    root.append(this.build());
    this.reset();
  }

  build() {
    this.summary = h("p", { class: "sol-selection", "aria-live": "polite" }, HINT);
    this.unselect = h("button", { type: "button", class: "sol-chip", hidden: true,
      onclick: () => this.select(null) }, "Clear selection");
    this.link = h("button", { type: "button", class: "sol-chip", onclick: () => this.copyLink() },
      "Copy link");
    this.reuse = h("button", { type: "button", class: "sol-chip", onclick: () => this.reuseText() },
      "Use its settings");
    this.tools = h("div", { class: "sol-tools" }, this.link, this.reuse);
    this.empty = emptyInspection();
    this.speed = h("p", { class: "sol-hint" });
    const status = h("section", { class: "sol-panel sol-status", "aria-label": "Inspection's status" },
      this.status.head, this.totals.element, this.speed);
    const tokens = h("section", { class: "sol-panel sol-tokens", "aria-label": "Inspected tokens" },
      h("div", { class: "sol-inspect-head" }, this.panes.choice, this.legend.element),
      h("div", { class: "sol-token-place" }, this.panes.element, this.empty),
      h("footer", { class: "sol-token-foot" }, this.summary, this.unselect, this.tools));
    return h("div", { class: "sol-grid" }, this.form.element,
      h("div", { class: "sol-stage" }, status, tokens, this.lens.element,
        h("div", { class: "sol-charts" }, this.charts.spend.element, this.charts.quality.element),
        this.difficulty.element));
  }

  // --- life of an inspection ------------------------------------------------------------------

  async start() {
    addEventListener("popstate", () => this.route());
    addEventListener("sol:open-inspection", (event) => this.open(event.detail));
    addEventListener("sol:hand-run", () => this.takeRun());
    addEventListener("sol:run-deleted", (event) => this.deleted(event.detail));
    addEventListener("sol:policies-changed", () => this.form.update());
    new IntersectionObserver((entries) => entries.at(-1).isIntersecting && this.form.update())
      .observe(this.root);
    addEventListener("keydown", (event) => {
      if (event.key === "Escape" && this.card.element.hidden && this.panes.range) this.select(null);
    });
    this.watchModel();
    this.takeRun();
    const asked = askedFor("inspection");
    if (asked) return this.open(asked);
    const home = await this.home();
    if (home?.active && !this.follower.runId) this.open(home.active, "replace");
  }

  route() {
    const asked = askedFor("inspection");
    if (asked === this.follower.runId) return;
    if (asked) this.open(asked);
    else this.reset();
  }

  async begin(request) {
    this.form.setBusy(true);
    try {
      const { run_id: id } = await this.api("start_inspection", request);
      this.liveId = this.startedId = id;
      this.open(id, "push");
    } catch (error) {
      this.form.setBusy(false);
      this.form.fail(error.refused ? error.message
        : "The server does not answer. Nothing you typed is lost; try again in a moment.");
    }
  }

  stop() {
    if (!this.liveId) return;
    this.form.stopButton.disabled = true;
    this.api("stop_run", { run_id: this.liveId }).catch(() => {
      this.form.stopButton.disabled = false;
    });
  }

  // A run was chosen in History.
  takeRun() {
    const runId = takeHandedRun("inspect");
    if (runId) this.form.useRun(runId);
  }

  // history: "push" when somebody asked for it here, "replace" when it was found; else the address
  // names it already.
  open(id, history) {
    if (history === "push") {
      setAddress({ inspection: id, tab: "inspect" }, id !== askedFor("inspection"));
      this.showTab();
    } else if (history === "replace") setAddress({ inspection: id });
    this.clear();
    show(this.empty, false);
    this.status.setState("opening", "");
    this.openedId = id;
    this.follower.follow(id);
  }

  reset() {
    this.follower.leave();
    this.clear();
    show(this.empty, true);
    this.status.setState("idle", "");
    if (this.model) this.status.showModel(this.model);
    this.offerLive();
  }

  clear() {
    this.card.hide();
    this.panes.clear();
    this.lens.clear();
    this.totals.clear();
    this.difficulty.clear();
    this.charts.clear(null);
    this.report = null;
    this.isOver = false;
    this.scored = null;
    this.status.say(null);
    this.status.setBar(null);
    show(this.speed, false);
    show(this.status.retry, false);
    this.tools.classList.add("is-idle");
    this.select(null);
  }

  began(run) {
    this.levels = gridLevels(run);
    this.names = rowNames(run);
    this.totals.clear(this.names);
    setText(this.speed, TABLE_NOTE);
    show(this.speed, true);
    this.legend.allow("difference", this.names.includes(STATIC),
      "Needs static among the schedules");
    this.tools.classList.remove("is-idle");
    this.reuse.disabled = run.settings === null;
    this.panes.begin(this.names, this.names.length - 1);
  }

  rows(tokens) {
    this.panes.append(tokens);
    this.totals.add(tokens);
    this.charts.append(tokens.map((token) => rowOf(token, this.names, this.panes.at)));
  }

  view(view, run) {
    if (view.live) this.liveId = run.id;
    else if (run.id === this.liveId) this.liveId = null;
    this.form.setBusy(view.live);
    if (view.live && view.stopping) this.form.stopButton.disabled = true;
    this.panes.setLive(view.live && view.status === "running");
    if (view.prefill && !this.panes.lead.length) {
      this.scored = view.prefill.scored;
      this.charts.data.limit = this.scored;
      this.panes.setLead(inspectionLead(view.prefill, run));
    }
    this.showStatus(view);
    show(this.status.retry, view.status === "failed" && this.model?.state === "failed");
    if (!view.live && !view.more) this.finish(view);
    this.offerLive();
  }

  showStatus(view) {
    const state = view.stopping && view.status !== "queued" ? "stopping" : view.status;
    const done = this.panes.tokens.length;
    const loading = view.status === "loading" && (view.model || this.model);
    this.status.setState(state, inspectionDetail(state, view, done, this.model));
    if (loading) this.status.setBar(loading.fraction);
    else this.status.setBar(view.live ? done / (view.prefill?.scored || 1) : null);
    this.status.explain(view);
    this.totals.draw();
  }

  finish(view) {
    this.isOver = true;
    this.charts.finish();
    if (this.openedId !== this.startedId) this.panes.toTop();
    this.report = view.summary?.report ?? null;
    this.difficulty.draw(this.report, this.names, this.panes.at);
    if (view.summary) {
      setText(this.speed, `${TABLE_NOTE} Measured: ${fixed(view.summary.tokens_per_s, 1)} tokens/s, `
        + `${count(this.names.length, "row")} in each step.`);
    }
    dispatchEvent(new CustomEvent("sol:runs-changed"));
  }

  lost() {
    this.status.say("The server does not answer; trying again. What is shown stays.", "warn");
  }

  gone(error) {
    if (this.liveId === this.follower.runId) this.liveId = null;
    this.follower.leave();
    this.form.setBusy(false);
    show(this.empty, true);
    this.status.setState("idle", "");
    this.status.say(error.message, "bad");
  }

  deleted(id) {
    if (id !== this.follower.runId) return;
    setAddress({ inspection: null });
    this.reset();
  }

  // Another inspection is on show while one of this visitor's is going on: offer the way back.
  offerLive() {
    const elsewhere = Boolean(this.liveId) && this.liveId !== this.follower.runId;
    show(this.status.back, elsewhere);
    if (elsewhere || !this.follower.runId) this.form.setBusy(elsewhere);
  }

  // --- the model ------------------------------------------------------------------------------

  async home() {
    try {
      const home = await this.api("home", {});
      this.model = home.model;
      if (!this.follower.runId) this.status.showModel(home.model);
      return home;
    } catch {
      if (!this.follower.runId) this.lost();
      return null;
    }
  }

  async watchModel() {
    await this.home();
    while (this.model?.state !== "ready" && this.model?.state !== "failed") {
      await wait(400);
      await this.home();
    }
  }

  async retryModel() {
    try {
      await this.api("retry_model", {});
    } catch {
      return this.lost();
    }
    this.model = null;
    show(this.status.retry, false);
    this.watchModel();
  }

  // --- looking --------------------------------------------------------------------------------

  // The charts, the card and the report follow the schedule on show.
  showRow(at) {
    const { run } = this.follower;
    if (!run) return;
    this.card.hide();
    this.charts.clear(runOfRow(run, at));
    this.charts.data.id = `${run.id}-${at}`;
    if (this.panes.tokens.length) this.charts.append(this.panes.rows(at));
    if (this.scored) this.charts.data.limit = this.scored;
    if (this.isOver) this.charts.finish();
    this.difficulty.draw(this.report, this.names, at);
  }

  enter(index, token, at) {
    this.card.show(this.panes.rows(at)[index], token);
    this.panes.mark(index);
    this.charts.mark(index);
  }

  pick(index, at) {
    const { run } = this.follower;
    if (!run || !gridLevels(run)) return;
    this.panes.pick(index, at);
    this.lens.open(run, this.liveId === run.id, this.panes.rows(at), index, { row: at });
  }

  within(range) {
    if (range === null) return null;
    const clipped = [Math.max(range[0], 0), Math.min(range[1], this.panes.tokens.length - 1)];
    return clipped[0] <= clipped[1] ? clipped : null;
  }

  select(range) {
    this.panes.select(range);
    if (String(range) !== String(this.selected ?? null)) this.charts.setSelection(range);
    this.selected = range;
    setText(this.summary, range ? selectionText(this.panes.rows(), range) : HINT);
    show(this.unselect, range !== null);
  }

  async copyLink() {
    await copyText(linkTo({ inspection: this.follower.runId }));
    flash(this.link, "Copied");
  }

  reuseText() {
    const { run } = this.follower;
    if (!run.config.generated.length) {
      this.form.text.value = run.prompt;
      this.form.source.set("text");
    }
    this.form.set(run.settings);
    this.form.changed();
    flash(this.reuse, "In the form");
  }
}

function inspectionDetail(state, view, done, model) {
  if (state === "queued") return view.place > 0 ? `${ordinal(view.place + 1)} in line` : "";
  if (state === "loading") return modelText(view.model || model);
  if (!view.prefill) return "";
  const { scored, tokens, text_tokens: whole } = view.prefill;
  const left = whole - tokens - scored;
  const parts = [`${done.toLocaleString("en")} of ${count(scored, "token")} scored`];
  if (left > 0) parts.push(`the last ${count(left, "token")} of the text left out`);
  return parts.join(" · ");
}

// What stands before the scored tokens: they were read densely and have no score.
function inspectionLead(prefill, run) {
  const name = run.config.generated.length ? "Prompt, read densely" : "Read first, not scored";
  return [h("span", { class: "sol-lead-name" }, name),
    h("p", { class: "sol-lead-text", dir: "auto" }, prefill.text)];
}

function emptyInspection() {
  return h("div", { class: "sol-empty" },
    h("h2", {}, "Where would the compute go on your text?"),
    h("ol", {},
      h("li", {}, "Paste a text, choose a file, or take a saved run. Nothing is generated."),
      h("li", {}, "Every token is scored under each schedule at once, at the same budget."),
      h("li", {}, "See what each one spent where, what that cost against dense, and which tokens "
        + "it served too well or too badly.")));
}

{
  const root = element.querySelector(".sol-inspect");
  const page = new InspectPage(root, makeApi(server), () => showTab(trigger, "inspect"));
  page.start();
}
