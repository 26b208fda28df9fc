// Puts the Evaluate page together: form, the evaluation on show with table and figures, the list.

class EvaluatePage {
  constructor(root, api, openTab) {
    this.root = root;
    this.api = api;
    this.openTab = openTab;
    this.form = new EvaluateForm(api, { start: (request) => this.start(request) });
    this.about = h("p", { class: "sol-hint" });
    this.partial = h("div", { class: "sol-partial" });
    this.exports = h("span", { class: "sol-job-tools", hidden: true },
      ["json", "csv"].map((form) => h("button", { type: "button", class: "sol-button is-small",
        onclick: () => this.download(form) }, form.toUpperCase())));
    this.headline = h("dl", { class: "sol-tiles is-job" });
    this.panel = new JobPanel({ idle: ["Ready", "no evaluation on show"], tools: this.exports,
      body: [this.about, this.headline, this.partial] },
    { act: (name) => this.act(name), clone: () => this.clone(this.panel.job.id) });
    this.table = new ResultTable();
    this.figures = h("div", { class: "sol-figures" });
    this.drawn = [];
    redrawOnTheme({ forEach: (task) => this.drawn.forEach(task) });
    this.list = new JobList(api, { heading: "Evaluations", kind: "evaluate",
      empty: "Nothing yet. Choose a policy and press Start evaluation." },
    { open: (job) => this.openFromList(job), clone: (job) => this.clone(job.id) });
    this.follower = new JobFollower(api, { view: (answer) => this.view(answer),
      lost: () => this.panel.say("The server does not answer; trying again. The evaluation itself goes on."),
      gone: (error) => { this.reset(); this.panel.say(error.message); } });
    this.empty = evaluateEmptyState();
    root.append(h("div", { class: "sol-grid" }, this.form.element,
      h("div", { class: "sol-stage" }, this.panel.element, this.empty, this.table.element,
        this.figures, this.list.element)));
    this.rest();
  }

  async begin() {
    addEventListener("sol:job-deleted", (event) => event.detail === this.follower.jobId && this.reset());
    addEventListener("sol:open-evaluation", (event) => this.open(event.detail));
    addEventListener("sol:clone-evaluation", (event) => this.clone(event.detail));
    addEventListener("sol:evaluate-policy", (event) => this.choose(event.detail));
    addEventListener("sol:policies-changed", () => this.home());
    addEventListener("popstate", () => askedFor("evaluation") && this.open(askedFor("evaluation")));
    const home = await this.home();
    if (window.solPolicy) this.choose(window.solPolicy);
    if (window.solClone?.evaluation) this.clone(window.solClone.evaluation);
    const asked = askedFor("evaluation") ?? home?.newest_job;
    if (asked && !this.follower.jobId) this.open(asked);
    new IntersectionObserver((entries) => entries.at(-1).isIntersecting && this.home())
      .observe(this.root);
  }

  async home() {
    try {
      const home = await this.api("evaluate_home", {});
      this.form.home(home);
      return home;
    } catch {
      this.panel.say("The server does not answer. Reload the page in a moment.");
      return null;
    }
  }

  async choose(name) {
    window.solPolicy = null;
    await this.home();
    this.form.policies.set([name]);
    this.form.changed();
  }

  async start(request) {
    const { job_id: jobId } = await this.api("start_evaluation", request);
    this.address(jobId);
    this.open(jobId);
    dispatchEvent(new CustomEvent("sol:jobs-changed"));
    if (innerWidth < 900) {
      this.panel.element.scrollIntoView({ behavior: isCalm() ? "auto" : "smooth" });
    }
  }

  address(jobId) {
    window.history.replaceState(window.history.state, "", addressOf("evaluation", jobId));
  }

  open(jobId) {
    this.rest();
    show(this.empty, false);
    this.follower.follow(jobId);
  }

  openFromList(job) {
    this.address(job.id);
    this.open(job.id);
    this.panel.element.scrollIntoView({ block: "nearest", behavior: isCalm() ? "auto" : "smooth" });
  }

  // Nothing is on show.
  rest() {
    this.panel.clear();
    show(this.empty, true);
    this.shown = null;
    this.drawn = [];
    this.figures.replaceChildren();
    this.partial.replaceChildren();
    [this.table.element, this.headline, this.exports, this.about].forEach((one) => show(one, false));
  }

  // The job on show is gone.
  reset() {
    this.follower.leave();
    this.rest();
    if (askedFor("evaluation")) this.address(null);
  }

  view({ job, partial }) {
    if (job.kind !== "evaluate") {
      this.reset();
      return this.panel.say("This job is no evaluation. Open it in the Train tab.");
    }
    const before = this.panel.job?.status;
    this.panel.update(job);
    const soFar = partial && job.status !== "succeeded" ? partialTable(partial) : null;
    this.partial.replaceChildren(...(soFar ? [soFar] : []));
    if (job.status === "succeeded" && this.shown !== job.id) this.showResult(job.id);
    if (before && before !== job.status) dispatchEvent(new CustomEvent("sol:jobs-changed"));
  }

  async showResult(jobId) {
    this.shown = jobId;
    try {
      const { view } = await this.api("evaluation_result", { job_id: jobId });
      if (this.follower.jobId !== jobId) return;
      this.draw(view);
    } catch (error) {
      this.shown = null;
      this.panel.say(error.refused ? error.message : "The result could not be loaded; trying again.");
    }
  }

  draw(view) {
    setText(this.about, aboutText(view.about));
    show(this.about, true);
    show(this.exports, true);
    const hasTable = view.baselines.length > 0;
    show(this.headline, hasTable);
    show(this.table.element, hasTable);
    if (hasTable) {
      this.table.take(view, (baseline) => this.headline.replaceChildren(
        ...headlineTiles(view.headline[baseline.name], baseline.label)));
    } else this.panel.say("This result has no comparison to show. Its JSON holds everything.");
    this.drawn = Object.entries(FIGURES).flatMap(([name, make]) =>
      (view.figures[name] ? make(view.figures[name]) : []));
    this.figures.replaceChildren(...this.drawn.map((one) => one.element));
    this.drawn.forEach((one) => one.redraw());
  }

  async download(form) {
    try {
      const file = await this.api("export_evaluation", { job_id: this.panel.job.id, form });
      const type = form === "json" ? "application/json" : "text/csv";
      const address = URL.createObjectURL(new Blob([file.text], { type }));
      h("a", { href: address, download: file.name }).click();
      setTimeout(() => URL.revokeObjectURL(address), 10_000);
    } catch (error) {
      this.panel.say(error.refused ? error.message : "The server does not answer. Try again.");
    }
  }

  async act(name) {
    try {
      await this.api(name, { job_id: this.panel.job.id });
    } catch (error) {
      this.panel.say(error.refused ? error.message : "The server does not answer. Try again.");
    }
    this.follower.kick();
    dispatchEvent(new CustomEvent("sol:jobs-changed"));
  }

  async clone(jobId) {
    window.solClone = null;
    try {
      this.form.use(await this.api("evaluation_settings", { job_id: jobId }));
      this.form.fail(null);
      this.form.element.scrollIntoView({ block: "start", behavior: isCalm() ? "auto" : "smooth" });
    } catch (error) {
      this.form.fail(error.refused ? error.message : "The server does not answer. Try again.");
    }
  }
}

function aboutText(about) {
  const parts = [about.policy && `Policy ${about.policy}`, about.model && modelName(about.model),
    about.corpus && `text ${modelName(about.corpus)}`,
    isNumber(about.scored_tokens) && count(about.scored_tokens, "scored token"),
    about.texts && `${about.texts} texts × ${about.steps} steps after ${about.context} tokens`,
    isNumber(about.elapsed_s) && `took ${roughly(about.elapsed_s)}`];
  return parts.filter(Boolean).join(" · ");
}

function evaluateEmptyState() {
  return h("section", { class: "sol-panel sol-train-empty" },
    h("h2", {}, "Does the policy earn its keep?"),
    h("ol", {},
      h("li", {}, h("strong", {}, "At the same spend."), " Every method gets the policy's own mean on each axis, on the same texts."),
      h("li", {}, h("strong", {}, "With intervals."), " Paired bootstrap over texts: a gain counts when its interval is above 0."),
      h("li", {}, h("strong", {}, "With figures."), " Pareto front, random schedules, adherence, variability, difficulty.")));
}

{
  const root = element.querySelector(".sol-evaluate");
  const page = new EvaluatePage(root, makeApi(server), (name) => showTab(trigger, name));
  page.begin();
}
