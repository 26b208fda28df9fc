// Puts the Train page together: form, job on show with its charts and sample, list of jobs.

const TILES = {
  kl: ["KL, held out", "nats per token"],
  nll: ["NLL, held out", "nats per token"],
  gap: ["Largest gap", "points off the budget"],
  speed: ["Decisions/s", "measured"],
  phase: ["Phase", "of this run"],
};

// Jobs with a page of their own: the name in the address and in events, and the tab.
const JOB_PAGES = {
  evaluate: { shown: "evaluation", tab: "evaluate" },
  benchmark: { shown: "benchmark", tab: "benchmark" },
};

class TrainPage {
  constructor(root, api, openTab) {
    this.api = api;
    this.openTab = openTab;
    this.form = new TrainForm(api, { start: (request) => this.start(request) });
    this.tiles = Object.fromEntries(Object.entries(TILES).map(([name, words]) => [name, tile(...words)]));
    this.made = h("div", { class: "sol-made", hidden: true });
    this.tileList = h("dl", { class: "sol-tiles is-job" }, Object.values(this.tiles).map((one) => one.element));
    this.panel = new JobPanel({ idle: ["Ready", "no training on show"], message: phaseName,
      body: [this.tileList, this.made] },
    { act: (name) => this.act(name), clone: () => this.clone(this.panel.job) });
    this.charts = new TrainCharts();
    this.sample = new SamplePanel(root);
    this.list = new JobList(api, { heading: "Jobs", kind: null,
      empty: "Nothing yet. Choose a preset and press Start training." },
    { open: (job) => this.openFromList(job), clone: (job) => this.clone(job) });
    this.follower = new JobFollower(api, { view: (answer) => this.view(answer),
      lost: () => this.panel.say("The server does not answer; trying again. The training itself goes on."),
      gone: (error) => { this.reset(); this.panel.say(error.message); } });
    this.empty = trainEmptyState();
    root.append(h("div", { class: "sol-grid" }, this.form.element,
      h("div", { class: "sol-stage" }, this.panel.element, this.empty, this.charts.element,
        this.sample.element, this.list.element)));
    this.rest();
  }

  async begin() {
    addEventListener("sol:job-deleted", (event) => event.detail === this.follower.jobId && this.reset());
    addEventListener("sol:open-training", (event) => this.open(event.detail));
    addEventListener("popstate", () => askedFor("train") && this.open(askedFor("train")));
    const home = await this.home();
    const asked = askedFor("train") ?? home?.newest_job;
    if (asked && !this.follower.jobId) this.open(asked);
  }

  async home() {
    try {
      const home = await this.api("train_home", {});
      this.form.home(home);
      return home;
    } catch {
      this.panel.say("The server does not answer. Reload the page in a moment.");
      return null;
    }
  }

  async start(request) {
    const { job_id: jobId } = await this.api("start_training", request);
    this.address(jobId);
    this.open(jobId);
    dispatchEvent(new CustomEvent("sol:jobs-changed"));
    this.home();
    if (innerWidth < 900) {
      this.panel.element.scrollIntoView({ behavior: isCalm() ? "auto" : "smooth" });
    }
  }

  address(jobId) {
    window.history.replaceState(window.history.state, "", addressOf("train", jobId));
  }

  open(jobId) {
    this.rest();
    show(this.empty, false);
    this.charts.clear(jobId);
    this.follower.follow(jobId);
  }

  openFromList(job) {
    const page = JOB_PAGES[job.kind];
    if (page) {
      window.history.replaceState(window.history.state, "", addressOf(page.shown, job.id));
      dispatchEvent(new CustomEvent(`sol:open-${page.shown}`, { detail: job.id }));
      this.openTab(page.tab);
      return;
    }
    this.address(job.id);
    this.open(job.id);
    this.panel.element.scrollIntoView({ block: "nearest", behavior: isCalm() ? "auto" : "smooth" });
  }

  // Nothing is on show.
  rest() {
    this.panel.clear();
    this.charts.clear(null);
    this.sample.clear();
    show(this.empty, true);
    [this.charts.element, this.sample.element, this.tileList, this.made]
      .forEach((part) => show(part, false));
    Object.values(this.tiles).forEach((one) => setText(one.value, MISSING));
  }

  // The job on show is gone.
  reset() {
    this.follower.leave();
    this.rest();
    if (askedFor("train")) this.address(null);
  }

  // --- the job on show ------------------------------------------------------------------------

  view({ job, metrics, samples }) {
    if (job.kind !== "train") {
      this.reset();
      return this.panel.say("This job is no training. Open it in the list.");
    }
    const before = this.panel.job?.status;
    this.panel.update(job);
    if (metrics.length) this.reveal();
    this.charts.append(metrics);
    if (samples) this.sample.take(samples);
    this.showNumbers();
    this.showMade(job);
    if (before && before !== job.status) {
      dispatchEvent(new CustomEvent("sol:jobs-changed"));
      if (job.status === "succeeded") dispatchEvent(new CustomEvent("sol:policies-changed"));
    }
  }

  // Charts come with the first report: until then there is nothing to look at.
  reveal() {
    [this.charts.element, this.sample.element, this.tileList].forEach((part) => show(part, true));
  }

  showNumbers() {
    const { last, phase } = this.charts.data;
    const gaps = ["gap_keep", "gap_channels", "gap_bits"].map((name) => last[name]).filter(isNumber);
    const against = (name) => (isNumber(last[`${name}_static`]) ? `static ${nats(last[`${name}_static`])}`
      : "nats per token");
    const texts = {
      kl: nats(last.kl), nll: nats(last.nll),
      gap: gaps.length ? fixed(100 * Math.max(...gaps.map(Math.abs)), 2) : MISSING,
      speed: fixed(last.decisions_per_s, 0), phase: phase ? phaseName(phase) : MISSING,
    };
    for (const [name, text] of Object.entries(texts)) setText(this.tiles[name].value, text);
    setText(this.tiles.kl.note, against("kl"));
    setText(this.tiles.nll.note, against("nll"));
  }

  // What came of it, and where it can be used.
  showMade(job) {
    const name = job.result?.policy ?? job.result?.name;
    show(this.made, job.status === "succeeded");
    if (job.status !== "succeeded" || this.made.dataset.job === job.id) return;
    this.made.dataset.job = job.id;
    const use = (label, event, tab) => h("button", { type: "button", class: "sol-button is-small",
      onclick: () => { window.solPolicy = name;
        dispatchEvent(new CustomEvent(event, { detail: name })); this.openTab(tab); } }, label);
    this.made.replaceChildren(h("span", {}, "The policy ", h("strong", {}, name ?? job.title),
      " is stored."), ...(name ? [use("Use it in Explore", "sol:use-policy", "explore"),
      use("Evaluate it", "sol:evaluate-policy", "evaluate")] : []));
  }

  async act(name) {
    const { id } = this.panel.job;
    try {
      await this.api(name, { job_id: id });
    } catch (error) {
      this.panel.say(error.refused ? error.message : "The server does not answer. Try again.");
    }
    this.follower.kick();
    dispatchEvent(new CustomEvent("sol:jobs-changed"));
  }

  async clone(job) {
    const page = JOB_PAGES[job.kind];
    if (page) {
      window.solClone = { [page.shown]: job.id }; // for a tab that is not there yet
      dispatchEvent(new CustomEvent(`sol:clone-${page.shown}`, { detail: job.id }));
      return this.openTab(page.tab);
    }
    try {
      const settings = await this.api("job_settings", { job_id: job.id });
      this.form.use({ ...settings, name: this.form.suggested ?? settings.name });
      this.form.fail(null);
      this.form.element.scrollIntoView({ block: "start", behavior: isCalm() ? "auto" : "smooth" });
    } catch (error) {
      this.form.fail(error.refused ? error.message : "The server does not answer. Try again.");
    }
  }
}

function trainEmptyState() {
  return h("section", { class: "sol-panel sol-train-empty" },
    h("h2", {}, "Train a policy of your own"),
    h("ol", {},
      h("li", {}, h("strong", {}, "Press Start training."), " A worker process does the work; you may close this page."),
      h("li", {}, h("strong", {}, "Watch it learn."), " Quality on text it never saw, beside static allocation at the same spend."),
      h("li", {}, h("strong", {}, "Use it."), " It appears in Explore as a schedule, and in Evaluate against every baseline.")));
}

{
  const root = element.querySelector(".sol-train");
  const page = new TrainPage(root, makeApi(server), (name) => showTab(trigger, name));
  page.begin();
}
