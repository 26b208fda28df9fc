// The list of jobs, newest first. Rows are kept and changed in place, so that the
// keyboard's place is not lost while progress moves.

import { reasonOf } from "../api.js";
import { button, chip, h, setText, show, watchSight } from "../dom.js";
import { emit, listen } from "../events.js";
import { isNumber, MISSING, percent, whenText } from "../format.js";
import { askToDelete } from "../forms/dialog.js";
import { errorLine, showText } from "../message.js";
import { setPill } from "../runs/status_line.js";

// The word that jobs of accuracy on tasks have in the database and in answers of the server.
export const TASKS_JOB = "benchmark";
const JOBS_PER_PAGE = 12;
const LIST_POLL_MS = 3000;
export const JOB_DOTS = {
  queued: "wait", running: "busy", paused: "wait", succeeded: "good", failed: "bad",
  cancelled: "idle", abandoned: "bad",
};

// "about 3 min", "about 2 h": an estimate deserves no seconds.
export function roughly(seconds) {
  if (!isNumber(seconds)) return MISSING;
  if (seconds < 50) return `${Math.max(5, 5 * Math.round(seconds / 5))} s`;
  if (seconds < 5400) return `${Math.max(1, Math.round(seconds / 60))} min`;
  return `${(seconds / 3600).toFixed(seconds < 36_000 ? 1 : 0)} h`;
}

class JobRow {
  constructor(job, on) {
    this.title = h("a", { class: "sol-history-title", href: "#", dir: "auto",
      onclick: (event) => { event.preventDefault(); on.open(this.job); } });
    this.state = h("span", { class: "sol-state" });
    this.kind = h("span", {});
    this.progress = h("span", {});
    this.when = h("time", {});
    this.meter = h("div", { class: "sol-job-meter", "aria-hidden": "true" });
    this.clone = chip("Clone settings", () => on.clone(this.job));
    this.remove = chip("Delete", () => on.remove(this.job));
    this.element = h("li", { class: "sol-history-row" },
      h("div", {}, this.title, h("div", { class: "sol-history-facts" }, this.state, this.kind,
        this.progress, this.when), this.meter),
      h("div", { class: "sol-history-tools" }, this.clone, this.remove));
    this.update(job);
  }

  update(job) {
    this.job = job;
    setText(this.title, job.title || "Untitled");
    setPill(this.state, job.status_label, job.is_damaged ? "bad" : JOB_DOTS[job.status] || "idle");
    setText(this.kind, job.kind_label);
    const isOpen = ["running", "paused", "queued"].includes(job.status);
    setText(this.progress, isOpen ? percent(job.progress)
      + (isNumber(job.eta_s) ? `, about ${roughly(job.eta_s)} left` : "") : "");
    show(this.progress, isOpen);
    show(this.meter, isOpen);
    this.meter.style.setProperty("--v", job.progress ?? 0);
    this.when.dateTime = job.created_at;
    setText(this.when, whenText(job.created_at));
    this.clone.setAttribute("aria-label", `Clone settings: ${job.title}`);
    this.remove.setAttribute("aria-label", `Delete: ${job.title}`);
    show(this.clone, !job.is_damaged);
    show(this.remove, job.can_delete);
  }
}

export class JobList {
  // options: {heading, kind (null: all), empty, last: a row that is always there}; on: {open(job), clone(job)}
  constructor(api, options, on) {
    this.api = api;
    this.options = options;
    this.on = { ...on, remove: (job) => this.ask(job) };
    this.rows = new Map();
    this.pages = 1;
    this.turn = 0;
    this.list = h("ol", { class: "sol-history-list" });
    this.empty = h("p", { class: "sol-history-empty", hidden: true }, options.empty);
    this.error = errorLine();
    this.more = button("Show more", () => { this.pages += 1; this.load(); },
      { class: "sol-button is-small sol-history-more", hidden: true });
    this.element = h("section", { class: "sol-panel sol-jobs", "aria-label": options.heading },
      h("header", {}, h("h2", {}, options.heading)), this.error, this.list, this.empty,
      this.more, options.last);
    listen("jobs-changed", () => this.load());
    watchSight(this.element, (isSeen) => {
      this.isSeen = isSeen;
      if (isSeen) this.load();
    });
    setInterval(() => this.isSeen && !document.hidden && this.load(), LIST_POLL_MS);
  }

  async load() {
    const turn = ++this.turn;
    const request = { kind: this.options.kind, limit: Math.min(100, this.pages * JOBS_PER_PAGE) };
    try {
      const answer = await this.api("list_jobs", request);
      if (turn !== this.turn) return;
      this.show(answer.jobs);
      show(this.more, answer.more && request.limit < 100);
      show(this.error, false);
    } catch (error) {
      if (turn !== this.turn) return;
      showText(this.error, reasonOf(error, "The server does not answer. What is shown stays."));
    }
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
    show(this.empty, jobs.length === 0 && !this.options.last);
  }

  ask(job) {
    askToDelete(this.element, "Delete this job for good?", `“${job.title}”: its charts, samples and checkpoint go. `
      + "A policy that it finished stays.", async () => {
      await this.api("delete_job", { job_id: job.id });
      emit("job-deleted", job.id);
      this.load();
    });
  }
}
