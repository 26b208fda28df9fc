// Puts the Train page together: form, job on show with its charts and sample, list of jobs.

import { TASKS_JOB } from "../lab/job_list.js";
import { JobPage } from "../lab/job_page.js";
import { phaseName, TrainCharts } from "../shared/charts/train_charts.js";
import { chip, h, setChildren, setText, show, smallButton } from "../shared/dom.js";
import { actionOf, AXES, fixed, isNumber, mean, MISSING, nats, roughly } from "../shared/format.js";
import { heldOutTiles, leadOf } from "../shared/page_parts.js";
import { handOverTo, openInTab, TAB_OF } from "../shared/tabs.js";
import { cardHead, cardLanes } from "../shared/tokens/card.js";
import { TokenStage } from "../shared/tokens/token_stage.js";
import { klAxis } from "../shared/tokens/token_view.js";

const sampleRow = (token, at) => ({ index: at, text: String(token.text ?? ""), action: actionOf(token.action),
  kl_to_dense: token.kl ?? null });

const sampleCard = (row) => [cardHead(row, `step ${row.index + 1}`),
  h("div", { class: "sol-card-spend" }, cardLanes(row)),
  h("dl", { class: "sol-card-facts" }, h("dt", {}, "KL to the full model"),
    h("dd", {}, isNumber(row.kl_to_dense) ? `${nats(row.kl_to_dense)} nats` : "not measured"))];

// A held-out text as the policy spends on it, and older samples of it.
class SamplePanel extends TokenStage {
  constructor(root) {
    super(root, [...AXES, klAxis("KL")], {});
    this.card.parts = sampleCard;
    this.tokens = this.addColumn(0, "Tokens of a held-out text");
    this.about = h("p", { class: "sol-hint" });
    this.older = chip("‹ Older", () => this.go(-1), { "aria-label": "Older sample" });
    this.newer = chip("Newer ›", () => this.go(1), { "aria-label": "Newer sample" });
    this.element = h("section", { class: "sol-panel sol-tokens sol-sample", "aria-label": "Sample" },
      this.legend.element, h("div", { class: "sol-token-place" }, this.tokens.element),
      h("footer", { class: "sol-token-foot" }, this.about, this.older, this.newer));
    this.clear();
  }

  select() {}

  clear() {
    this.samples = [];
    this.at = -1;
    this.render();
  }

  // Stays at an older sample that is being looked at; otherwise shows the newest.
  take(samples) {
    const looked = this.samples.slice(0, -1)[this.at]?.step;
    this.samples = samples.filter((one) => Array.isArray(one.tokens));
    const kept = this.samples.findIndex((one) => one.step === looked);
    this.at = kept < 0 ? this.samples.length - 1 : kept;
    this.render();
  }

  go(by) {
    this.at = Math.min(Math.max(this.at + by, 0), this.samples.length - 1);
    this.render();
  }

  render() {
    const sample = this.samples[this.at];
    show(this.element, Boolean(sample));
    this.older.disabled = this.at <= 0;
    this.newer.disabled = this.at >= this.samples.length - 1;
    this.card.hide();
    this.tokens.clear();
    const lead = sample ? leadOf("Read in full before", tail(String(sample.context ?? ""))) : [];
    this.tokens.lead.replaceChildren(...lead);
    if (sample) this.tokens.append(sample.tokens.filter((one) => one.action?.length === 3).map(sampleRow));
    this.toTop();
    setText(this.about, sample ? this.sentence(sample) : "");
  }

  sentence(sample) {
    const spend = AXES.map((axis, at) => `${axis.noun} ${axis.show(mean(this.tokens.rows.map(axis.of)))} of `
      + axis.show(sample.budget?.[at])).join(", ");
    return `Report ${sample.step}: spent ${spend}. Sample ${this.at + 1} of ${this.samples.length}.`;
  }
}

function bareWords(presets) {
  const times = presets.map(({ label, minutes }) => `${roughly(60 * minutes)} (${label})`);
  const list = new Intl.ListFormat("en", { type: "disjunction" }).format(times);
  return "A policy learns which steps can do with less, so that its answers stay closer to the full model's "
    + `for the same bytes. Training one takes about ${list} on two CPU cores; you may close this page.`;
}

// The end of a long context: what the first decode step continues.
const tail = (text, length = 300) => (text.length > length ? `… ${text.slice(-length)}` : text);

const JOB_PAGES = { evaluate: "evaluation", [TASKS_JOB]: "accuracy" };

export class TrainPage extends JobPage {
  constructor(root, api, page) {
    super(root, api, page, { kind: "train", part: "train", noun: "training",
      wrong: "This job is not a training. Choose it in the list.", go: "Start training",
      message: (name, job) => this.stepOf(name, job),
      list: { heading: "Jobs", kind: null,
        empty: "Nothing yet. Choose a preset and press Start training." } });
    this.made = h("div", { class: "sol-made", hidden: true });
    this.tileList = h("dl", { class: "sol-tiles is-job" });
    this.charts = new TrainCharts();
    this.sample = new SamplePanel(root);
    this.empty = h("section", { class: "sol-panel sol-explains" },
      h("h2", {}, "Train a policy of your own"), h("p", {}, bareWords(page.presets)));
    this.lay([this.verdict.element, this.tileList, this.made], this.empty, this.charts.element,
      this.sample.element);
  }

  open(jobId) {
    super.open(jobId);
    show(this.empty, false);
    this.charts.clear(jobId);
  }

  openFromList(job) {
    const page = JOB_PAGES[job.kind];
    return page ? openInTab(page, job.id) : super.openFromList(job);
  }

  rest() {
    super.rest();
    show(this.empty, true);
    this.charts.clear(null);
    this.sample.clear();
    this.tileList.replaceChildren();
    show(this.made, false);
  }

  view({ job, metrics, samples }) {
    this.charts.append(metrics);
    if (!this.update(job)) return;
    if (samples) this.sample.take(samples);
    if (metrics.length) this.showNumbers();
    this.showMade(job);
  }

  stepOf(name, { texts_to_label: texts }) {
    const { labelled } = this.charts.data;
    if (name === "measuring" && !labelled) return "Measuring static on held-out text, to compare with";
    return name === "labelling" && texts && labelled < texts ? `Labelling text ${labelled + 1} of ${texts}`
      : phaseName(name);
  }

  showNumbers() {
    const { last, phase } = this.charts.data;
    this.tileList.replaceChildren(...heldOutTiles(last, [
      ["Decisions/s", fixed(last.decisions_per_s, 0), "measured"],
      ["Phase", phase ? phaseName(phase) : MISSING, "of this run"]]));
  }

  showMade(job) {
    const name = job.result?.policy ?? job.result?.name;
    show(this.made, job.status === "succeeded");
    this.verdict.draw([job.verdict]);
    if (job.status !== "succeeded" || this.made.dataset.job === job.id) return;
    this.made.dataset.job = job.id;
    const use = (label, order, tab) => smallButton(label, () => handOverTo(tab, order, name));
    setChildren(this.made, h("span", {}, "The policy ", h("strong", {}, name ?? job.title), " is stored."),
      name && [use("Use it in Explore", "use-policy", "explore"),
        use("Evaluate it", "evaluate-policy", "evaluate")]);
  }

  async clone(job) {
    const page = JOB_PAGES[job.kind];
    return page ? handOverTo(TAB_OF[page], `clone-${page}`, job.id) : super.clone(job);
  }
}
