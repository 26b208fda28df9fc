// Puts the Inspect page together: form, stage, lens, the life of an inspection, address bar.

const HINT = "Hover a token, or focus the text and use the arrow keys. Click one (or Enter) to ask what if.";

class InspectPage extends RunPage {
  constructor(root, api, showTab) {
    super(root, api, showTab, "inspection");
    this.form = new InspectForm({
      start: (request) => this.begin(request), stop: () => this.stop(),
      policies: async () => (await api("list_policies", {})).policies,
      runs: async () => (await api("saved_runs", {})).runs,
    });
    this.status = new StatusLine({
      retry: () => this.retryModel(), backToLive: () => this.open(this.liveId, "push"),
    }, INSPECT_STATES, "Show the running inspection");
    this.stage = new InspectionStage(root, this.status, {
      pick: (index, at) => this.pick(index, at),
      colour: (key) => setAddress({ [this.names.colour]: key }),
      row: (value) => setAddress({ [this.names.row]: value }),
    }, HINT);
    this.panes = this.stage.panes;
    this.legend = this.stage.legend;
    this.lens = new LensPanel(api, { close: () => this.unpick(),
      show: () => setAddress({ [this.names.lens]: this.lens.shown }) });
    this.follower = this.follow({ begin: (run) => this.began(run),
      rows: (rows) => this.stage.append(rows) });
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

  start() {
    addEventListener("sol:open-inspection", (event) => this.open(event.detail));
    addEventListener("sol:hand-run", () => this.takeRun());
    addEventListener("sol:policies-changed", () => this.form.update());
    new IntersectionObserver((entries) => entries.at(-1).isIntersecting && this.form.update())
      .observe(this.root);
    this.takeRun();
    this.takeUp();
  }

  async begin(request) {
    this.startedId = await this.ask("start_inspection", request) ?? this.startedId;
  }

  // A run was chosen in History.
  takeRun() {
    const runId = takeHandedRun("inspect");
    if (runId) this.form.useRun(runId);
  }

  open(id, history) {
    this.openedId = id;
    super.open(id, history);
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
    this.showRow();
    this.tools.classList.remove("is-idle");
    this.reuse.disabled = run.settings === null;
  }

  draw(view) {
    this.panes.setLive(view.live && view.status === "running");
    const isStopping = view.stopping && view.status !== "queued";
    this.stage.update(view, isStopping ? "stopping" : view.status, this.model);
  }

  finish(view) {
    if (this.openedId !== this.startedId) this.panes.toTop();
    this.stage.finish(view);
  }

  // --- looking --------------------------------------------------------------------------------

  pick(index, at) {
    const { run } = this.follower;
    if (!run || !gridLevels(run)) return;
    this.panes.pick(index, at);
    this.picked(`${index + 1}.${at}`);
    this.lens.open(run, this.liveId === run.id, this.panes.rows(at), index, { row: at });
  }

  markNone() {
    this.panes.pick(null);
  }

  // "5.2": the fifth token under the row of number 2.
  placeOf(text) {
    const [index, at] = text.split(".").map((part, place) => Number(part) - (place ? 0 : 1));
    return this.panes.tokens[index] && this.panes.names[at] ? [index, at] : null;
  }

  pickAt([index, at]) {
    this.panes.reveal(index);
    this.pick(index, at);
  }

  route() {
    super.route();
    if (askedFor(this.part) === this.follower.run?.id) this.showRow();
  }

  // The row that the address names, or as an inspection opens.
  showRow() {
    const asked = askedFor(this.names.row) ?? String(this.panes.names.length - 1);
    if (this.panes.has(asked) && asked !== this.panes.value) this.panes.show(asked);
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
