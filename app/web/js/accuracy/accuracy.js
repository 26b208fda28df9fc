// Puts the Accuracy page together: form, the measurement on show with table and figures, the list.

import { makeApi } from "../shared/api.js";
import { h } from "../shared/dom.js";
import { isNumber, mean, modelName } from "../shared/format.js";
import { roughly, TASKS_JOB } from "../shared/jobs/job_list.js";
import { ResultPage } from "../shared/jobs/job_page.js";
import { ENOUGH_QUESTIONS, verdictOf } from "../shared/verdict.js";
import { accuracyTable, points, taskFigure } from "./accuracy_figures.js";
import { LabForm } from "../lab/lab_form.js";

class AccuracyPage extends ResultPage {
  constructor(root, api, page) {
    super(root, api, { shipped: page.shipped, kind: TASKS_JOB, part: "accuracy", tab: "accuracy",
      noun: "measurement", wrong: "This job does not measure accuracy. Open it under Train.", files: ["json"] });
    this.form = new LabForm(api, { start: (request) => this.start(request) }, page, "Measure accuracy");
    this.panel = this.makePanel({ tools: this.exports, body: [this.verdict.element, this.about] });
    this.table = h("div");
    this.list = this.makeList({ heading: "Measurements", kind: TASKS_JOB,
      empty: "Nothing yet. Choose a policy and press Measure accuracy." });
    this.lay(this.figures, this.table);
  }

  rest() {
    super.rest();
    this.table.replaceChildren();
  }

  draw({ view: { about, tasks, pooled, summary } }) {
    this.tellAbout([`Policy ${about.policy}`, modelName(about.model ?? ""),
      `at most ${about.limit} questions a task, seed ${about.seed}`,
      isNumber(about.elapsed_s) && `took ${roughly(about.elapsed_s)}`]);
    this.verdict.draw([accuracyVerdict(about, tasks, summary)]);
    const all = [...tasks, ...pooled];
    this.table.replaceChildren(accuracyTable(all));
    this.drawFigures(all.map(taskFigure));
  }
}

// Spend: mean over tasks and budgets, as a share of what the full model reads there.
function accuracyVerdict(about, tasks, { mean_gain: gain }) {
  const shareOf = (method) => mean(tasks.flatMap(({ dense, rows }) =>
    rows.map((row) => row.methods[method]?.bytes_per_token / dense.bytes_per_token)));
  return verdictOf({ name: `policy ${about.policy}`, other: "static", gains: [[gain.mean, gain.low, gain.high]],
    text: points, unit: "points of accuracy", word: "question", enough: ENOUGH_QUESTIONS,
    samples: tasks.reduce((sum, task) => sum + task.questions, 0), spent: [[shareOf("policy"), shareOf("static")]] });
}

export function mountAccuracy(root, server, page) {
  new AccuracyPage(root, makeApi(server), page).begin();
}
