// Puts the Accuracy page together: form, the measurement on show with table and figures, the list.

import { makeApi } from "../shared/api.js";
import { redrawOnTheme } from "../shared/charts/figure.js";
import { h, setText, show } from "../shared/dom.js";
import { saveFile } from "../shared/download.js";
import { isNumber, modelName, signed } from "../shared/format.js";
import { TASKS_JOB } from "../shared/jobs/job_kinds.js";
import { roughly } from "../shared/jobs/job_list.js";
import { ResultPage } from "../shared/jobs/job_page.js";
import { tile } from "../shared/page_parts.js";
import { accuracyTable, points, taskFigure } from "./accuracy_figures.js";
import { AccuracyForm } from "./accuracy_form.js";

class AccuracyPage extends ResultPage {
  constructor(root, api, page) {
    super(root, api, { kind: TASKS_JOB, part: "accuracy", tab: "accuracy",
      noun: "measurement", wrong: "This job does not measure accuracy. Open it in the Train tab.",
      calls: { home: "accuracy_home", start: "start_accuracy", settings: "accuracy_settings",
        result: "accuracy_result" } });
    this.form = new AccuracyForm({ start: (request) => this.start(request) }, page);
    this.about = h("p", { class: "sol-hint" });
    this.headline = h("dl", { class: "sol-tiles is-job" });
    this.save = h("button", { type: "button", class: "sol-button is-small", hidden: true,
      onclick: () => this.download() }, "JSON");
    this.panel = this.makePanel({ tools: this.save, body: [this.about, this.headline] });
    this.table = h("div");
    this.figures = h("div", { class: "sol-figures" });
    this.drawn = [];
    redrawOnTheme({ forEach: (task) => this.drawn.forEach(task) });
    this.list = this.makeList({ heading: "Measurements", kind: TASKS_JOB,
      empty: "Nothing yet. Choose a policy and press Measure accuracy." });
    this.empty = accuracyEmptyState();
    this.lay(this.figures, this.table);
  }

  rest() {
    super.rest();
    this.result = null;
    this.drawn = [];
    this.figures.replaceChildren();
    this.table.replaceChildren();
    [this.headline, this.save, this.about].forEach((one) => show(one, false));
  }

  view({ job }) {
    if (this.update(job)) this.showResultOf(job);
  }

  draw({ view: { about, tasks, pooled, summary }, result }) {
    this.result = result;
    setText(this.about, [`Policy ${about.policy}`, modelName(about.model ?? ""),
      `at most ${about.limit} questions a task, seed ${about.seed}`,
      isNumber(about.elapsed_s) && `took ${roughly(about.elapsed_s)}`].filter(Boolean).join(" · "));
    show(this.about, true);
    show(this.save, true);
    show(this.headline, true);
    this.headline.replaceChildren(...headline(summary));
    const all = [...tasks, ...pooled];
    this.table.replaceChildren(accuracyTable(all));
    this.drawn = all.map(taskFigure);
    this.figures.replaceChildren(...this.drawn.map((one) => one.element));
    this.drawn.forEach((one) => one.redraw());
  }

  download() {
    saveFile("accuracy.json", new Blob([JSON.stringify(this.result, null, 1)], { type: "application/json" }));
  }
}

function headline(summary) {
  const { mean_gain: mean, mean_nll_gain: nll, best, pairs } = summary;
  const sure = isNumber(summary.above)
    ? `pairs of task and budget; interval above 0 on ${summary.above}, below on ${summary.below}`
    : "pairs of task and budget";
  const made = [
    ["Mean gain over static", points(mean.mean),
      `points of accuracy, ${pairs} pairs of task and budget${between(mean, points)}`],
    ["Better than static", `${summary.better} of ${pairs}`, sure],
    ["Best gain", points(best.mean),
      `points: ${best.task}, ${best.label}${between(best, points)}; chosen among ${pairs}, so it flatters`],
    nll && ["Right answers' NLL", signed(nll.mean, 3),
      `nats per token below static's, mean of ${pairs} pairs${between(nll, (one) => signed(one, 3))}`],
  ];
  return made.filter(Boolean).map(([name, value, note]) => {
    const one = tile(name, note);
    setText(one.value, value);
    return one.element;
  });
}

function between({ low, high }, format) {
  return isNumber(low) ? ` (${format(low)} to ${format(high)})` : "";
}

function accuracyEmptyState() {
  return h("section", { class: "sol-panel sol-train-empty" },
    h("h2", {}, "Does compute go where answers need it?"),
    h("ol", {},
      h("li", {}, h("strong", {}, "Real questions."), " Six public test sets, scored by the likelihood of each answer."),
      h("li", {}, h("strong", {}, "A dense question, a compressed answer."), " The policy chooses for every token of every answer."),
      h("li", {}, h("strong", {}, "Beside chance, dense and static."), " Static gets exactly what the policy spent.")));
}

export function mount(root, server, page) {
  new AccuracyPage(root, makeApi(server), page).begin();
}
