// Another training behind the charts of the one on show: a choice of the finished and running ones.

import { reasonOf } from "../shared/api.js";
import { h, optionsOf, selectOf, show } from "../shared/dom.js";
import { whenText } from "../shared/format.js";
import { allReports } from "../shared/jobs/reports.js";
import { errorLine, showText } from "../shared/message.js";

const MOST = 50; // trainings to choose from

export class Beside {
  // charts: TrainCharts
  constructor(api, charts) {
    this.api = api;
    this.charts = charts;
    this.choice = selectOf([], { onchange: () => this.lay(), "aria-label": "Compare with another training" });
    this.error = errorLine();
    this.element = h("div", { class: "sol-beside", hidden: true }, h("span", {}, "Compare with"), this.choice,
      h("span", { class: "sol-hint" }, "dotted, behind this one's lines"), this.error);
  }

  // The training on show is this one, or none.
  async begin(id) {
    this.id = id;
    show(this.element, false);
    if (id === null) return;
    try {
      const { jobs } = await this.api("list_jobs", { kind: "train", group: "all", before: null, limit: MOST });
      if (this.id !== id) return;
      const others = jobs.filter((job) => job.id !== id && !job.is_damaged);
      this.choice.replaceChildren(...optionsOf([["", "no other training"],
        ...others.map((job) => [job.id, `${job.title}, ${whenText(job.created_at)}`])]));
      show(this.element, others.length > 0);
    } catch {
      // The list of jobs below says that the server does not answer.
    }
  }

  async lay() {
    const { id, choice } = this;
    const other = choice.value;
    showText(this.error, null);
    if (!other) return this.charts.lay(null);
    const name = choice.selectedOptions[0].textContent;
    const rows = [];
    try {
      await allReports(this.api, other, (page) => {
        rows.push(...page);
        return this.id === id && choice.value === other;
      });
      if (this.id === id && choice.value === other) await this.charts.lay(name, rows);
    } catch (error) {
      showText(this.error, reasonOf(error));
    }
  }
}
