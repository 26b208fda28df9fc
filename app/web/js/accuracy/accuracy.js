// Puts the Accuracy page together: form, the measurement on show with table and figures, the list.

import { makeApi } from "../shared/api.js";
import { h, show, smallButton } from "../shared/dom.js";
import { saveFile } from "../shared/download.js";
import { isNumber, modelName, signed } from "../shared/format.js";
import { roughly, TASKS_JOB } from "../shared/jobs/job_list.js";
import { ResultPage } from "../shared/jobs/job_page.js";
import { emptyPanel, tiles } from "../shared/page_parts.js";
import { accuracyTable, points, taskFigure } from "./accuracy_figures.js";
import { AccuracyForm } from "./accuracy_form.js";

class AccuracyPage extends ResultPage {
  constructor(root, api, page) {
    super(root, api, { shipped: page.shipped, kind: TASKS_JOB, part: "accuracy", tab: "accuracy",
      noun: "measurement", wrong: "This job does not measure accuracy. Open it in the Train tab.",
      calls: { home: "accuracy_home", start: "start_accuracy", settings: "accuracy_settings",
        result: "accuracy_result" } });
    this.form = new AccuracyForm({ start: (request) => this.start(request) }, page);
    this.save = smallButton("JSON", () => this.download(), { hidden: true });
    this.panel = this.makePanel({ tools: this.save, body: [this.about, this.headline] });
    this.table = h("div");
    this.list = this.makeList({ heading: "Measurements", kind: TASKS_JOB,
      empty: "Nothing yet. Choose a policy and press Measure accuracy." });
    this.empty = emptyPanel("Does compute go where answers need it?", [
      ["Real questions.", "Six public test sets, scored by the likelihood of each answer."],
      ["A dense question, a compressed answer.", "The policy chooses for every token of every answer."],
      ["Beside chance, dense and static.", "Static gets exactly what the policy spent."]]);
    this.lay(this.figures, this.table);
  }

  rest() {
    super.rest();
    this.result = null;
    this.table.replaceChildren();
    show(this.save, false);
  }

  draw({ view: { about, tasks, pooled, summary }, result }) {
    this.result = result;
    this.tellAbout([`Policy ${about.policy}`, modelName(about.model ?? ""),
      `at most ${about.limit} questions a task, seed ${about.seed}`,
      isNumber(about.elapsed_s) && `took ${roughly(about.elapsed_s)}`]);
    show(this.save, true);
    show(this.headline, true);
    this.headline.replaceChildren(...headline(summary));
    const all = [...tasks, ...pooled];
    this.table.replaceChildren(accuracyTable(all));
    this.drawFigures(all.map(taskFigure));
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
  return tiles([
    ["Mean gain over static", points(mean.mean),
      `points of accuracy, ${pairs} pairs of task and budget${between(mean, points)}`],
    ["Better than static", `${summary.better} of ${pairs}`, sure],
    ["Best gain", points(best.mean),
      `points: ${best.task}, ${best.label}${between(best, points)}; chosen among ${pairs}, so it flatters`],
    nll && ["Right answers' NLL", signed(nll.mean, 3),
      `nats per token below static's, mean of ${pairs} pairs${between(nll, (one) => signed(one, 3))}`],
  ].filter(Boolean));
}

function between({ low, high }, format) {
  return isNumber(low) ? ` (${format(low)} to ${format(high)})` : "";
}

export function mount(root, server, page) {
  new AccuracyPage(root, makeApi(server), page).begin();
}
