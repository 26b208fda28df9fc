// The list of jobs, whose rows change in place, so that the keyboard's place is not lost; and a job's head.

import { attempt, newest } from "../shared/api.js";
import {
  announce, button, chip, errorLine, h, opensHere, setText, show, showText, smallButton, watchSight,
} from "../shared/dom.js";
import { isNumber, modelName, percent, roughly, sentence, whenText } from "../shared/format.js";
import { askToDelete } from "../shared/forms/form.js";
import { setPill, StateHead } from "../shared/runs/status_line.js";
import { emit, listen } from "../shared/tabs.js";

// The word that jobs of accuracy on tasks have in the database and in answers of the server.
export const TASKS_JOB = "benchmark";
const JOBS_PER_PAGE = 12;
const LIST_POLL_MS = 3000;
const JOB_DOTS = {
  queued: "wait", running: "busy", paused: "wait", succeeded: "good", failed: "bad",
  cancelled: "idle", abandoned: "bad",
};

const timeLeft = (job) => isNumber(job.eta_s) && job.can_pause
  && `about ${roughly(job.eta_s)} left (estimate)`;

class JobRow {
  constructor(job, on) {
    const onclick = opensHere(() => on.open(this.job));
    this.title = h("a", { class: "sol-history-title", href: "#", dir: "auto", onclick });
    this.state = h("span", { class: "sol-state" });
    this.facts = h("div", { class: "sol-history-facts" });
    this.meter = h("div", { class: "sol-job-meter", "aria-hidden": "true" });
    this.clone = chip("Clone settings", () => on.clone(this.job));
    this.remove = chip("Delete", () => on.remove(this.job));
    this.element = h("li", { class: "sol-history-row" }, h("div", {}, this.title, this.facts, this.meter),
      h("div", { class: "sol-tools" }, this.clone, this.remove));
  }

  update(job) {
    this.job = job;
    const isOpen = ["running", "paused", "queued"].includes(job.status);
    setText(this.title, job.title || "Untitled");
    setPill(this.state, job.status_label, job.is_damaged ? "bad" : JOB_DOTS[job.status] || "idle");
    this.facts.replaceChildren(this.state, h("span", {}, job.kind_label),
      isOpen && job.progress > 0
        ? h("span", {}, [percent(job.progress), timeLeft(job)].filter(Boolean).join(", ")) : "",
      h("time", { datetime: job.created_at }, whenText(job.created_at)));
    show(this.meter, isOpen);
    this.meter.style.setProperty("--v", job.progress ?? 0);
    this.clone.setAttribute("aria-label", `Clone settings: ${job.title}`);
    this.remove.setAttribute("aria-label", `Delete: ${job.title}`);
    show(this.clone, !job.is_damaged);
    show(this.remove, job.can_delete);
  }
}

export class JobList {
  // options: {heading, kind (null: all), empty: words in place of rows}; on: {open(job), clone(job)}
  constructor(api, options, on) {
    this.api = api;
    this.options = options;
    this.on = { ...on, remove: (job) => this.ask(job) };
    this.rows = new Map();
    this.pages = 1;
    this.list = h("ol", { class: "sol-history-list" });
    this.empty = h("p", { class: "sol-history-empty", hidden: true }, options.empty);
    this.error = errorLine();
    this.more = button("Show more", () => { this.pages += 1; this.load(); },
      { class: "sol-button is-small sol-history-more", hidden: true });
    this.element = h("section", { class: "sol-panel sol-jobs", "aria-label": options.heading },
      h("header", {}, h("h2", {}, options.heading)), this.error, this.list, this.empty, this.more);
    listen("jobs-changed", () => this.load());
    watchSight(this.element, (isSeen) => {
      this.isSeen = isSeen;
      if (isSeen) this.load();
    });
    setInterval(() => this.isSeen && !document.hidden && this.load(), LIST_POLL_MS);
  }

  load() {
    const request = { kind: this.options.kind, limit: Math.min(100, this.pages * JOBS_PER_PAGE) };
    return attempt(async () => {
      const answer = await newest(this, this.api("list_jobs", request));
      this.show(answer.jobs);
      show(this.more, answer.more && request.limit < 100);
      show(this.error, false);
    }, (words) => showText(this.error, words), "The server does not answer. What is shown stays.");
  }

  show(jobs) {
    const kept = new Map();
    jobs.forEach((job, at) => {
      const row = this.rows.get(job.id) ?? new JobRow(job, this.on);
      row.update(job);
      kept.set(job.id, row);
      if (this.list.children[at] !== row.element) {
        this.list.insertBefore(row.element, this.list.children[at] ?? null);
      }
    });
    for (const [id, row] of this.rows) if (!kept.has(id)) row.element.remove();
    this.rows = kept;
    show(this.empty, jobs.length === 0 && Boolean(this.options.empty));
  }

  ask(job) {
    const text = `“${job.title}”: its charts, samples and checkpoint go. A policy that it finished stays.`;
    askToDelete(this.element, "Delete this job for good?", text, async () => {
      await this.api("delete_job", { job_id: job.id });
      emit("job-deleted", job.id);
      this.load();
    });
  }
}

export class JobPanel extends StateHead {
  say = (text) => showText(this.trouble, text);

  // options: {message(text): of a running job}; on: {act(name), clone()}
  constructor(options, on) {
    super();
    this.options = options;
    this.title = h("strong", { class: "sol-job-title", dir: "auto" });
    const act = (name, label) => smallButton(label, () => on.act(name), { hidden: true });
    this.buttons = { pause: act("pause_job", "Pause"), resume: act("resume_job", "Resume"),
      cancel: act("cancel_job", "Cancel") };
    this.clone = smallButton("Clone settings", on.clone, { hidden: true });
    this.error = h("pre", { class: "sol-message is-bad sol-job-error", role: "alert", hidden: true });
    this.advice = h("p", { class: "sol-hint", hidden: true });
    this.trouble = h("p", { class: "sol-message is-warn", role: "status", hidden: true });
    this.facts = h("p", { class: "sol-job-facts sol-hint", hidden: true });
    this.log = h("details", {}, h("summary", {}, "Details"), "Log ", h("code", {}));
    this.tools = h("div", { class: "sol-tools" }, Object.values(this.buttons), this.clone);
    this.element = h("section", { class: "sol-panel sol-status sol-job", "aria-label": "Job" }, this.bar,
      h("div", { class: "sol-status-line" }, this.pill, this.title, this.detail, this.tools, this.announce),
      this.error, this.advice, this.trouble, this.facts);
  }

  clear() {
    this.job = null;
    setPill(this.pill, "Ready", "idle");
    [this.title, this.detail].forEach((part) => setText(part, ""));
    this.setBar(null);
    [...Object.values(this.buttons), this.clone, this.error, this.advice, this.trouble, this.facts]
      .forEach((one) => show(one, false));
  }

  showShipped({ title, made, machine, command }) {
    setPill(this.pill, "Shipped", "good");
    setText(this.title, title);
    setText(this.detail, `measured by the authors, ${whenText(made)}`);
    this.showFacts([`Measured on another machine (${machine}).`, h("code", {}, command)]);
  }

  update(job) {
    const { status_label: label } = job;
    if (label !== this.job?.status_label) announce(this.announce, `${job.title}: ${label}.`);
    this.job = job;
    setPill(this.pill, label, JOB_DOTS[job.status] || "idle");
    setText(this.title, job.title || "Untitled");
    setText(this.detail, this.detailOf(job));
    this.setBar(job.live || job.status === "paused" ? job.progress ?? 0 : null);
    for (const [name, element] of Object.entries(this.buttons)) show(element, job[`can_${name}`]);
    show(this.clone, true);
    showText(this.error, job.error && sentence(job.error));
    showText(this.advice, job.advice);
    show(this.trouble, false);
    this.showFacts([job.started_at && `Begun ${whenText(job.started_at)}`,
      job.finished_at && `Ended ${whenText(job.finished_at)}`, job.model && `Model ${modelName(job.model)}`,
      job.log_file && this.log].filter(Boolean));
    setText(this.log.lastChild, job.log_file);
  }

  detailOf(job) {
    const isRunning = job.status === "running";
    const goesOn = isRunning && job.can_pause; // nobody asked it to stop
    const worked = (Date.now() - Date.parse(job.started_at)) / 1000;
    const isEarly = goesOn && !job.progress;
    const message = job.message && (this.options.message?.(job.message, job) ?? job.message);
    return [job.status === "queued" && "waiting for a worker",
      isRunning && message
        && (isEarly ? `Getting ready: ${message[0].toLowerCase()}${message.slice(1)}` : message),
      (goesOn || job.status === "paused") && job.progress > 0 && percent(job.progress), timeLeft(job),
      isEarly && worked > 0 && `${roughly(worked)} so far`,
      isEarly && job.expected_s && `about ${roughly(job.expected_s)} in all (estimate)`,
    ].filter(Boolean).join(" · ");
  }

  showFacts(parts) {
    this.facts.replaceChildren(...parts.map((part) => h("span", {}, part)));
    show(this.facts, parts.length > 0);
  }
}
