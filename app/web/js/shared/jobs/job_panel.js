// The head of a job's page: what it is, how far it is, what may be done about it, what went wrong.

import { h, setText, show, smallButton } from "../dom.js";
import { isNumber, modelName, percent, whenText } from "../format.js";
import { showText } from "../message.js";
import { setPill, StateHead } from "../runs/status_line.js";
import { JOB_DOTS, roughly } from "./job_list.js";

export class JobPanel extends StateHead {
  // options: {idle: [state, detail], message(text), body, tools: nodes}; on: {act(name), clone()}
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
    this.tools = h("div", { class: "sol-job-tools" }, Object.values(this.buttons), this.clone,
      options.tools);
    this.element = h("section", { class: "sol-panel sol-status sol-job", "aria-label": "Job" },
      this.bar, h("div", { class: "sol-status-line" }, this.pill, this.title, this.detail,
        this.tools, this.announce),
      this.error, this.advice, this.trouble, options.body, this.facts);
    this.clear();
  }

  clear() {
    this.job = null;
    setPill(this.pill, this.options.idle[0], "idle");
    setText(this.title, "");
    setText(this.detail, this.options.idle[1]);
    this.setBar(null);
    [...Object.values(this.buttons), this.clone, this.error, this.advice, this.trouble, this.facts]
      .forEach((one) => show(one, false));
  }

  // A measurement that came with the program: about as the server has it.
  showShipped({ title, made, machine, command }) {
    setPill(this.pill, "Shipped", "good");
    setText(this.title, title);
    setText(this.detail, `measured by the authors, ${whenText(made)}`);
    this.facts.replaceChildren(h("span", {}, `On ${machine}, not on this one`), h("span", { class: "sol-log" }, h("code", {}, command)));
    show(this.facts, true);
  }

  update(job) {
    if (job.status_label !== this.job?.status_label) {
      setText(this.announce, `${job.title}: ${job.status_label}.`);
    }
    this.job = job;
    setPill(this.pill, job.status_label, JOB_DOTS[job.status] || "idle");
    setText(this.title, job.title || "Untitled");
    setText(this.detail, this.detailOf(job));
    this.setBar(job.live || job.status === "paused" ? job.progress ?? 0 : null);
    for (const [name, button] of Object.entries(this.buttons)) show(button, job[`can_${name}`]);
    show(this.clone, true);
    showText(this.error, job.error);
    showText(this.advice, job.advice);
    show(this.trouble, false);
    this.showFacts(job);
  }

  detailOf(job) {
    const parts = [];
    if (job.status === "queued") parts.push("waiting for a worker");
    if (job.status === "running" && job.message) parts.push(this.options.message?.(job.message) ?? job.message);
    if (job.status === "running" || job.status === "paused") parts.push(percent(job.progress));
    if (job.status === "running" && isNumber(job.eta_s)) parts.push(`about ${roughly(job.eta_s)} left`);
    return parts.join(" · ");
  }

  showFacts(job) {
    const parts = [["Begun", job.started_at && whenText(job.started_at)],
      ["Ended", job.finished_at && whenText(job.finished_at)],
      ["Model", job.model && modelName(job.model)]].filter(([, value]) => value);
    this.facts.replaceChildren(...parts.map(([name, value]) => h("span", {}, `${name} ${value}`)),
      ...(job.log_file ? [h("span", { class: "sol-log" }, "Log ", h("code", {}, job.log_file))] : []));
    show(this.facts, this.facts.childElementCount > 0);
  }

  // Something that the user should know besides the job's own state.
  say(text) {
    showText(this.trouble, text);
  }
}
