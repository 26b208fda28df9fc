// Puts the Train page together: form, job on show with its charts and sample, list of jobs.

import { openInTab, showTab, TAB_OF } from "../shared/address.js";
import { makeApi } from "../shared/api.js";
import { phaseName, TrainCharts } from "../shared/charts/train_charts.js";
import { h, setText, show, smallButton } from "../shared/dom.js";
import { emit, handOver } from "../shared/events.js";
import { fixed, isNumber, largestGap, MISSING, nats } from "../shared/format.js";
import { TASKS_JOB } from "../shared/jobs/job_list.js";
import { JobPage } from "../shared/jobs/job_page.js";
import { tile } from "../shared/page_parts.js";
import { LabForm } from "../lab/lab_form.js";
import { SamplePanel } from "./train_sample.js";

const TILES = {
  kl: ["[[kl|KL]], [[held out]]", "nats per token"],
  nll: ["[[nll|NLL]], held out", "nats per token"],
  gap: ["Largest gap", "points off the budget"],
  speed: ["Decisions/s", "measured"],
  phase: ["Phase", "of this run"],
};

// Jobs with a page of their own: their part of the address, and of events.
const JOB_PAGES = { evaluate: "evaluation", [TASKS_JOB]: "accuracy" };

class TrainPage extends JobPage {
  constructor(root, api, page) {
    super(root, api, { kind: "train", part: "train", tab: "train", noun: "training",
      wrong: "This job is not a training. Choose it in the list." });
    this.form = new LabForm(api, { start: (request) => this.start(request) }, page, "Start training");
    this.tiles = Object.fromEntries(Object.entries(TILES).map(([name, words]) => [name, tile(...words)]));
    this.made = h("div", { class: "sol-made", hidden: true });
    this.tileList = h("dl", { class: "sol-tiles is-job" }, Object.values(this.tiles).map((one) => one.element));
    this.panel = this.makePanel({ message: phaseName, body: [this.tileList, this.made] });
    this.charts = new TrainCharts();
    this.sample = new SamplePanel(root);
    this.list = this.makeList({ heading: "Jobs", kind: null,
      empty: "Nothing yet. Choose a preset and press Start training." });
    this.empty = h("section", { class: "sol-panel sol-explains" }, h("h2", {}, "Train a policy of your own"), h("ol", {},
      [["Press Start training.", "A worker process does the work; you may close this page."],
        ["Watch it learn.", "Quality on text it never saw, beside static allocation at the same spend."],
        ["Use it.", "It appears in Explore as a schedule, and in Evaluate against every baseline."],
      ].map(([bold, text]) => h("li", {}, h("strong", {}, bold), ` ${text}`))));
    this.lay(this.charts.element, this.sample.element);
  }

  open(jobId) {
    super.open(jobId);
    this.charts.clear(jobId);
  }

  openFromList(job) {
    const page = JOB_PAGES[job.kind];
    if (!page) return super.openFromList(job);
    return openInTab(page, job.id);
  }

  rest() {
    super.rest();
    this.charts.clear(null);
    this.sample.clear();
    [this.charts.element, this.sample.element, this.tileList, this.made]
      .forEach((part) => show(part, false));
    Object.values(this.tiles).forEach((one) => setText(one.value, MISSING));
  }

  view({ job, metrics, samples }) {
    if (!this.update(job)) return;
    if (metrics.length) this.reveal();
    this.charts.append(metrics);
    if (samples) this.sample.take(samples);
    this.showNumbers();
    this.showMade(job);
  }

  statusChanged(job) {
    if (job.status === "succeeded") emit("policies-changed");
  }

  // Charts come with the first report: until then there is nothing to look at.
  reveal() {
    [this.charts.element, this.sample.element, this.tileList].forEach((part) => show(part, true));
  }

  showNumbers() {
    const { last, phase } = this.charts.data;
    const against = (name) => (isNumber(last[`${name}_static`]) ? `static ${nats(last[`${name}_static`])}`
      : "nats per token");
    const texts = {
      kl: nats(last.kl), nll: nats(last.nll),
      gap: fixed(largestGap(last), 2),
      speed: fixed(last.decisions_per_s, 0), phase: phase ? phaseName(phase) : MISSING,
    };
    for (const [name, text] of Object.entries(texts)) setText(this.tiles[name].value, text);
    setText(this.tiles.kl.note, against("kl"));
    setText(this.tiles.nll.note, against("nll"));
  }

  // The stored policy, and tabs that can use it.
  showMade(job) {
    const name = job.result?.policy ?? job.result?.name;
    show(this.made, job.status === "succeeded");
    if (job.status !== "succeeded" || this.made.dataset.job === job.id) return;
    this.made.dataset.job = job.id;
    const use = (label, order, tab) => smallButton(label, () => { handOver(order, name); showTab(tab); });
    this.made.replaceChildren(h("span", {}, "The policy ", h("strong", {}, name ?? job.title),
      ` is stored. ${lastReport(this.charts.data.last)}`), ...(name ? [use("Use it in Explore", "use-policy", "explore"),
      use("Evaluate it", "evaluate-policy", "evaluate")] : []));
  }

  async clone(job) {
    const page = JOB_PAGES[job.kind];
    if (!page) return super.clone(job);
    handOver(`clone-${page}`, job.id);
    return showTab(TAB_OF[page]);
  }
}

// The last measurement of a training, which has no interval.
/** @param {Record<string, number>} last */
function lastReport({ kl, kl_static: even }) {
  if (!isNumber(kl) || !isNumber(even)) return "Evaluate it to learn whether it beats static.";
  const gap = even - kl;
  return `Held out, its KL is ${nats(Math.abs(gap))} nats a token ${gap > 0 ? "lower" : "higher"} than that of static at the `
    + "same spend. Training measures no interval: only an evaluation tells whether that is a difference.";
}

export function mountTrain(root, server, page) {
  new TrainPage(root, makeApi(server), page).begin();
}
