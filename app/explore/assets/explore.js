// Puts the page together and ties its parts: form, status, tokens, card, charts, address bar.

const HINT = "Hover a token, or focus the text and use the arrow keys. Click one (or Enter) to ask what if. "
  + "Drag over a chart to select.";

class ExplorePage {
  constructor(root, api, showTab) {
    this.root = root;
    this.api = api;
    this.showTab = showTab;
    this.axes = colourAxes(PAGE.limits);
    this.controls = new Controls({
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
    this.lens = new LensPanel(api, { close: () => this.tokens.pick(null) });
    this.charts = new Charts({
      hover: (index) => this.tokens.mark(index, true) ?? this.charts.mark(index),
      leave: () => { this.tokens.mark(null); this.charts.mark(null); },
      select: (range) => this.select(this.within(range)),
    });
    this.card.onHide = () => { this.tokens.mark(null); this.charts.mark(null); };
    this.estimate = new Estimate(api);
    this.legend = new Legend(this.axes, (axis) => this.tokens.setAxis(axis));
    this.follower = new RunFollower(api, {
      begin: (run) => this.begin(run), rows: (rows) => this.rows(rows),
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
    this.text = h("button", { type: "button", class: "sol-chip", onclick: () => this.copyRun() },
      "Copy text");
    this.reuse = h("button", { type: "button", class: "sol-chip", onclick: () => this.reuseRun() },
      "Use its settings");
    this.tools = h("div", { class: "sol-tools" }, this.link, this.text, this.reuse);
    this.empty = emptyState();
    const tokens = h("section", { class: "sol-panel sol-tokens", "aria-label": "Tokens" },
      this.legend.element,
      h("div", { class: "sol-token-place" }, this.tokens.element, this.empty),
      h("footer", { class: "sol-token-foot" }, this.summary, this.unselect, this.tools));
    this.notices = h("div", { class: "sol-notices" });
    return h("div", { class: "sol-grid" }, this.notices, this.controls.element,
      h("div", { class: "sol-stage" }, this.status.element, tokens, this.lens.element,
        h("div", { class: "sol-charts" }, this.charts.spend.element, this.charts.quality.element),
        this.estimate.element));
  }

  // --- life of a run ------------------------------------------------------------------------

  async start() {
    addEventListener("popstate", () => this.route());
    addEventListener("sol:open-run", (event) => this.open(event.detail, "push"));
    addEventListener("sol:use-policy", (event) => this.usePolicy(event.detail));
    addEventListener("sol:policies-changed", () => this.controls.fields.schedule.update());
    // The tab comes into view: a policy that was trained meanwhile is there.
    new IntersectionObserver((entries) => entries.at(-1).isIntersecting
      && this.controls.fields.schedule.update()).observe(this.root);
    if (window.solPolicy) this.usePolicy(window.solPolicy);
    addEventListener("sol:run-deleted", (event) => this.deleted(event.detail));
    addEventListener("keydown", (event) => {
      if (event.key === "Escape" && this.card.element.hidden && this.tokens.range) {
        this.select(null);
      }
    });
    this.watchModel();
    const asked = askedFor("run");
    if (asked) return this.open(asked, null);
    const home = await this.home();
    if (home?.active && !this.follower.runId) this.open(home.active, "replace");
  }

  route() {
    if (SHOWN.some((one) => one !== "run" && askedFor(one))) return;
    const asked = askedFor("run");
    if (asked === this.follower.runId) return;
    if (asked) this.open(asked, null);
    else this.reset();
    this.showTab();
  }

  async generate(prompt, settings) {
    this.controls.setBusy(true);
    try {
      const { run_id: runId } = await this.api("start_run", { prompt, settings });
      this.liveId = runId;
      this.open(runId, "push");
      if (innerWidth < 900) {
        this.status.element.scrollIntoView({ behavior: isCalm() ? "auto" : "smooth" });
      }
    } catch (error) {
      this.controls.setBusy(false);
      this.controls.fail(error.refused ? error.message
        : "The server does not answer. Nothing you typed is lost; try again in a moment.");
    }
  }

  usePolicy(name) {
    window.solPolicy = null;
    this.controls.fields.schedule.set(POLICY_PREFIX + name);
    this.controls.changed();
  }

  stop() {
    if (!this.liveId) return;
    this.controls.stop.disabled = true;
    this.api("stop_run", { run_id: this.liveId }).catch(() => {
      this.controls.stop.disabled = false;
    });
  }

  open(runId, history) {
    if (history === "push" && runId !== askedFor("run")) {
      window.history.pushState(null, "", runUrl(runId));
    } else if (history === "replace") window.history.replaceState(null, "", runUrl(runId));
    this.clear();
    show(this.empty, false);
    this.status.setState("opening", "");
    this.follower.follow(runId);
    this.showTab();
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

  view(view, run) {
    if (view.live) this.liveId = run.id;
    else if (run.id === this.liveId) this.liveId = null;
    this.tokens.element.classList.toggle("is-live", view.live && view.status === "running");
    this.controls.setBusy(view.live);
    if (view.live && view.stopping) this.controls.stop.disabled = true;
    this.status.update(view, run, this.model);
    this.estimate.follow(this.status.tally, run, view.live);
    show(this.status.retry, view.status === "failed" && this.model?.state === "failed");
    if (!view.live && !view.more) {
      this.charts.finish();
      dispatchEvent(new CustomEvent("sol:runs-changed"));
    }
    this.offerLive();
  }

  lost() {
    this.status.say("The server does not answer; trying again. What is shown stays.", "warn");
  }

  gone(error) {
    if (this.liveId === this.follower.runId) this.liveId = null;
    this.follower.leave();
    this.controls.setBusy(false);
    show(this.empty, true);
    this.status.setState("idle", "");
    this.status.say(error.message, "bad");
  }

  deleted(runId) {
    if (runId !== this.follower.runId) return;
    window.history.replaceState(null, "", runUrl(null));
    this.reset();
  }

  // Another run is on show while one of this visitor's is going on: offer the way back.
  offerLive() {
    const elsewhere = Boolean(this.liveId) && this.liveId !== this.follower.runId;
    show(this.status.back, elsewhere);
    if (elsewhere || !this.follower.runId) this.controls.setBusy(elsewhere);
  }

  // --- the model ----------------------------------------------------------------------------

  async home() {
    try {
      const home = await this.api("home", {});
      this.model = home.model;
      if (!this.noticed) this.notices.append(...home.notices.map(noticeLine));
      this.noticed = true;
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
    this.estimate.refresh(true);
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
    this.lens.open(run, this.liveId === run.id, this.tokens.rows, index);
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

  async copyLink() {
    await copyText(runUrl(this.follower.runId));
    flash(this.link, "Copied");
  }

  async copyRun() {
    await copyText(this.tokens.rows.map((row) => row.t).join(""));
    flash(this.text, "Copied");
  }

  reuseRun() {
    const { run } = this.follower;
    this.controls.set(run.prompt, run.settings);
    flash(this.reuse, "In the form");
  }
}

{
  const root = element.querySelector(".sol-explore");
  const page = new ExplorePage(root, makeApi(server), () => showTab(trigger, "explore"));
  page.start();
}
