// Puts the Benchmark page together: form, the benchmark on show with table and figures, the list.

class BenchmarkPage {
  constructor(root, api) {
    this.root = root;
    this.api = api;
    this.form = new BenchmarkForm({ start: (request) => this.start(request) });
    this.about = h("p", { class: "sol-hint" });
    this.headline = h("dl", { class: "sol-tiles is-job" });
    this.save = h("button", { type: "button", class: "sol-button is-small", hidden: true,
      onclick: () => this.download() }, "JSON");
    this.panel = new JobPanel({ idle: ["Ready", "no benchmark on show"], tools: this.save,
      body: [this.about, this.headline] },
    { act: (name) => this.act(name), clone: () => this.clone(this.panel.job.id) });
    this.table = h("div");
    this.figures = h("div", { class: "sol-figures" });
    this.drawn = [];
    redrawOnTheme({ forEach: (task) => this.drawn.forEach(task) });
    this.list = new JobList(api, { heading: "Benchmarks", kind: "benchmark",
      empty: "Nothing yet. Choose a policy and press Start benchmark." },
    { open: (job) => this.openFromList(job), clone: (job) => this.clone(job.id) });
    this.follower = new JobFollower(api, { view: (answer) => this.view(answer),
      lost: () => this.panel.say("The server does not answer; trying again. The benchmark itself goes on."),
      gone: (error) => { this.reset(); this.panel.say(error.message); } });
    this.empty = benchmarkEmptyState();
    root.append(h("div", { class: "sol-grid" }, this.form.element,
      h("div", { class: "sol-stage" }, this.panel.element, this.empty, this.figures, this.table,
        this.list.element)));
    this.rest();
  }

  async begin() {
    addEventListener("sol:job-deleted", (event) => event.detail === this.follower.jobId && this.reset());
    addEventListener("sol:open-benchmark", (event) => this.open(event.detail));
    addEventListener("sol:clone-benchmark", (event) => this.clone(event.detail));
    addEventListener("sol:policies-changed", () => this.home());
    addEventListener("popstate", () => askedFor("benchmark") && this.open(askedFor("benchmark")));
    const home = await this.home();
    if (window.solClone?.benchmark) this.clone(window.solClone.benchmark);
    const asked = askedFor("benchmark") ?? home?.newest_job;
    if (asked && !this.follower.jobId) this.open(asked);
    new IntersectionObserver((entries) => entries.at(-1).isIntersecting && this.home())
      .observe(this.root);
  }

  async home() {
    try {
      const home = await this.api("benchmark_home", {});
      this.form.home(home);
      return home;
    } catch {
      this.panel.say("The server does not answer. Reload the page in a moment.");
      return null;
    }
  }

  async start(request) {
    const { job_id: jobId } = await this.api("start_benchmark", request);
    this.address(jobId);
    this.open(jobId);
    dispatchEvent(new CustomEvent("sol:jobs-changed"));
  }

  address(jobId) {
    window.history.replaceState(window.history.state, "", addressOf("benchmark", jobId));
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
    this.shown = this.result = null;
    this.drawn = [];
    this.figures.replaceChildren();
    this.table.replaceChildren();
    [this.headline, this.save, this.about].forEach((one) => show(one, false));
  }

  // The job on show is gone.
  reset() {
    this.follower.leave();
    this.rest();
    if (askedFor("benchmark")) this.address(null);
  }

  view({ job }) {
    if (job.kind !== "benchmark") {
      this.reset();
      return this.panel.say("This job is no benchmark. Open it in the Train tab.");
    }
    const before = this.panel.job?.status;
    this.panel.update(job);
    if (job.status === "succeeded" && this.shown !== job.id) this.showResult(job.id);
    if (before && before !== job.status) dispatchEvent(new CustomEvent("sol:jobs-changed"));
  }

  async showResult(jobId) {
    this.shown = jobId;
    try {
      const { view, result } = await this.api("benchmark_result", { job_id: jobId });
      if (this.follower.jobId !== jobId) return;
      this.result = result;
      this.draw(view);
    } catch (error) {
      this.shown = null;
      this.panel.say(error.refused ? error.message : "The result could not be loaded; trying again.");
    }
  }

  draw({ about, tasks, summary }) {
    setText(this.about, [`Policy ${about.policy}`, modelName(about.model ?? ""),
      `at most ${about.limit} questions a task, seed ${about.seed}`,
      isNumber(about.elapsed_s) && `took ${roughly(about.elapsed_s)}`].filter(Boolean).join(" · "));
    show(this.about, true);
    show(this.save, true);
    show(this.headline, Boolean(summary));
    if (summary) this.headline.replaceChildren(...headline(summary));
    this.table.replaceChildren(benchmarkTable(tasks));
    this.drawn = tasks.map(taskFigure);
    this.figures.replaceChildren(...this.drawn.map((one) => one.element));
    this.drawn.forEach((one) => one.redraw());
  }

  download() {
    const address = URL.createObjectURL(new Blob([JSON.stringify(this.result, null, 1)],
      { type: "application/json" }));
    h("a", { href: address, download: "benchmark.json" }).click();
    setTimeout(() => URL.revokeObjectURL(address), 10_000);
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
      this.form.use(await this.api("benchmark_settings", { job_id: jobId }));
      this.form.fail(null);
      this.form.element.scrollIntoView({ block: "start", behavior: isCalm() ? "auto" : "smooth" });
    } catch (error) {
      this.form.fail(error.refused ? error.message : "The server does not answer. Try again.");
    }
  }
}

function headline(summary) {
  const made = [
    ["Mean gain over static", `${points(summary.mean_gain)}`, `points of accuracy, ${summary.pairs} pairs of task and budget`],
    ["Better than static", `${summary.better} of ${summary.pairs}`, "pairs of task and budget"],
    ["Best gain", points(summary.best.mean),
      `points: ${summary.best.task}, ${summary.best.label}; chosen among ${summary.pairs}, so it flatters`],
  ];
  return made.map(([name, value, note]) => {
    const one = tile(name, note);
    setText(one.value, value);
    return one.element;
  });
}

function benchmarkEmptyState() {
  return h("section", { class: "sol-panel sol-train-empty" },
    h("h2", {}, "Does compute go where answers need it?"),
    h("ol", {},
      h("li", {}, h("strong", {}, "Real questions."), " Six public test sets, scored by the likelihood of each answer."),
      h("li", {}, h("strong", {}, "A dense question, a compressed answer."), " The policy chooses for every token of every answer."),
      h("li", {}, h("strong", {}, "Beside chance, dense and static."), " Static gets exactly what the policy spent.")));
}

{
  const page = new BenchmarkPage(element.querySelector(".sol-benchmark"), makeApi(server));
  page.begin();
}
