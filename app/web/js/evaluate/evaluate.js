// Puts the Evaluate page together: form, the evaluation on show with table and figures, the list.

import { h, show } from "../shared/dom.js";
import { takeOver } from "../shared/tabs.js";
import { count, isNumber, modelName, roughly } from "../shared/format.js";
import { ResultPage } from "../lab/job_page.js";
import { FIGURES, partialTable, ResultTable } from "./figures.js";

export class EvaluatePage extends ResultPage {
  constructor(root, api, page) {
    super(root, api, page, { kind: "evaluate", part: "evaluation", noun: "evaluation",
      wrong: "This job is not an evaluation. Open it under Train.", go: "Start evaluation",
      list: { heading: "Evaluations", kind: "evaluate" }, files: ["json", "csv"] });
    this.partial = h("div", { class: "sol-partial" });
    this.table = new ResultTable();
    this.lay([this.verdict.element, this.about, this.partial], this.table.element, this.figures);
  }

  async begin() {
    await super.begin();
    takeOver("evaluate-policy", async (name) => {
      await this.home();
      this.form.policies?.set([name]);
      this.form.changed();
    });
  }

  rest() {
    super.rest();
    this.partial.replaceChildren();
    show(this.table.element, false);
  }

  showPartial(partial) {
    this.partial.replaceChildren(partial && partialTable(partial) || "");
  }

  draw({ view }) {
    this.tellAbout(aboutParts(view.about));
    const hasTable = view.baselines.length > 0;
    show(this.table.element, hasTable);
    if (hasTable) {
      this.table.take(view, ({ name }, measure) => this.verdict.draw([view.verdicts[name][measure]]));
    } else this.panel.say("This result has no comparison to show. Its JSON holds everything.");
    this.drawFigures(Object.entries(FIGURES).filter(([name]) => view.figures[name])
      .map(([name, make]) => make(view.figures[name])));
  }
}

function aboutParts({ policy, model, corpus, scored_tokens: scored, texts, steps, context, elapsed_s: s }) {
  const windows = scored / (texts * steps);
  return [policy && `Policy ${policy}`, model && modelName(model), corpus && `text ${modelName(corpus)}`,
    isNumber(scored) && count(scored, "scored token"),
    texts && `${texts} texts × ${windows > 1 ? `${windows} windows × ` : ""}${steps} steps after `
      + count(context, "token"),
    isNumber(s) && `took ${roughly(s)}`];
}
