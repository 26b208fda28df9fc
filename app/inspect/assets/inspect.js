// Puts the Inspect page together: form, stage, lens, the life of an inspection, address bar.

const HINT = "Hover a token, or focus the text and use the arrow keys. Click one (or Enter) to ask what if.";

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
    this.stage = new InspectionStage(root, this.status, { pick: (index, at) => this.pick(index, at) }, HINT);
    this.panes = this.stage.panes;
    this.lens = new LensPanel(api, { close: () => this.panes.pick(null) });
    this.follower = new RunFollower(api, {
      begin: (run) => this.began(run), rows: (rows) => this.stage.append(rows),
      view: (view, run) => this.view(view, run), lost: () => this.lost(),
      gone: (error) => this.gone(error),
    });
    root.append(this.build());
    this.reset();
  }

  build() {
    this.link = h("button", { type: "button", class: "sol-chip", onclick: () => this.copyLink() },
      "Copy link");
    this.reuse = h("button", { type: "button", class: "sol-chip", onclick: () => this.reuseText() },
      "Use its settings");
    this.export = exportMenu(this.api, "inspection", () => this.follower.runId,
      (message) => this.status.say(message, "bad"));
    this.tools = h("div", { class: "sol-tools" }, this.link, this.reuse, this.export);
    this.empty = emptyInspection();
    return h("div", { class: "sol-grid" }, this.form.element,
      this.stage.build({ over: this.empty, tools: this.tools, below: this.lens.element }));
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
    this.stage.clear();
    this.lens.clear();
    this.status.say(null);
    this.status.setBar(null);
    show(this.status.retry, false);
    this.tools.classList.add("is-idle");
  }

  began(run) {
    this.stage.begin(run);
    this.tools.classList.remove("is-idle");
    this.reuse.disabled = run.settings === null;
  }

  view(view, run) {
    if (view.live) this.liveId = run.id;
    else if (run.id === this.liveId) this.liveId = null;
    this.form.setBusy(view.live);
    if (view.live && view.stopping) this.form.stopButton.disabled = true;
    this.panes.setLive(view.live && view.status === "running");
    const isStopping = view.stopping && view.status !== "queued";
    this.stage.update(view, isStopping ? "stopping" : view.status, this.model);
    show(this.status.retry, view.status === "failed" && this.model?.state === "failed");
    if (!view.live && !view.more) this.finish(view);
    this.offerLive();
  }

  finish(view) {
    if (this.openedId !== this.startedId) this.panes.toTop();
    this.stage.finish(view);
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

  pick(index, at) {
    const { run } = this.follower;
    if (!run || !gridLevels(run)) return;
    this.panes.pick(index, at);
    this.lens.open(run, this.liveId === run.id, this.panes.rows(at), index, { row: at });
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
