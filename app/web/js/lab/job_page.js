// A page of jobs: a form that starts one, the job on show, which the address names, and a list of the others.

import { attempt, Follower, newest } from "../shared/api.js";
import {
  bringIntoView, h, scrollTo, show, showText, smallButton, whenSeen, whenThemeChanges,
} from "../shared/dom.js";
import { whenText } from "../shared/format.js";
import { ask } from "../shared/forms/form.js";
import { listRow, saveFile } from "../shared/page_parts.js";
import { VerdictLine } from "../shared/runs/verdict.js";
import {
  askedFor, emit, linkTo, listen, nameInFront, setAddress, TAB_OF, tabOf, takeOver,
} from "../shared/tabs.js";
import { JobList, JobPanel } from "./job_list.js";
import { LabForm } from "./lab_form.js";

export const SHIPPED = "shipped"; // in place of a job's id, as the server has it
const LIVE_POLL_MS = 1000;
const IDLE_POLL_MS = 4000;
const ASKED_FROM_MS = 60_000;

export class JobPage {
  verdict = new VerdictLine();

  // what: {kind, part: name in the address, noun, wrong: words for another kind's job, go, list, message}
  constructor(root, api, page, what) {
    this.root = root;
    this.api = api;
    this.what = what;
    this.form = new LabForm(api, { start: (request) => this.start(request) }, page, what.go);
    const clone = (job) => this.clone(job);
    this.panel = new JobPanel(what, { act: (name) => this.act(name), clone: () => clone(this.panel.job) });
    this.list = new JobList(api, what.list, { open: (job) => this.openFromList(job), clone });
    this.follower = new Follower({ take: (answer) => this.take(answer),
      ask: (id) => api("poll_job", { job_id: id, cursor: this.cursor, sample_step: this.sampleStep }),
      lost: () =>
        this.panel.say(`The server does not answer; trying again. The ${what.noun} itself goes on.`),
      gone: (error) => { this.reset(); this.panel.say(error.message); } });
  }

  view(answer) {}

  // One that has ended is still looked at now and then: somebody may resume it.
  take(answer) {
    this.cursor = answer.cursor;
    this.sampleStep = answer.samples?.at(-1)?.step ?? this.sampleStep;
    this.view(answer);
    if (answer.more) return 0;
    return answer.job.live && !document.hidden ? LIVE_POLL_MS : IDLE_POLL_MS;
  }

  lay(body, ...stage) {
    this.panel.facts.before(...body);
    this.root.append(h("div", { class: "sol-grid" },
      h("div", { class: "sol-stage" }, this.panel.element, stage, this.list.element), this.form.element));
    this.rest();
  }

  async begin() {
    const { part } = this.what;
    listen("job-deleted", (detail) => detail === this.follower.id && this.reset());
    listen(`open-${part}`, (detail) => this.open(detail));
    listen("policies-changed", () => this.home());
    addEventListener("popstate", () => {
      const asked = askedFor(part);
      if (asked === this.follower.id) return;
      if (asked) this.open(asked);
      else if (tabOf() === TAB_OF[part]) this.reset();
    });
    const name = nameInFront(TAB_OF[part], () => (askedFor(part) ? {} : { [part]: this.follower.id }));
    const home = await this.home();
    takeOver(`clone-${part}`, (id) => this.clone({ id, kind: this.what.kind }));
    const asked = askedFor(part) ?? home?.newest_job ?? (this.what.shipped ? SHIPPED : null);
    if (asked && !this.follower.id) this.open(asked);
    name();
    whenSeen(this.root, () => this.home());
  }

  async home() {
    try {
      const home = await this.api("lab_home", { kind: this.what.kind });
      this.form.home(home);
      return home;
    } catch {
      this.panel.say("The server does not answer. Reload the page in a moment.");
      return null;
    }
  }

  async start(request) {
    const { job_id: jobId } = await this.api("start_job", { kind: this.what.kind, ...request });
    this.address(jobId);
    this.open(jobId);
    emit("jobs-changed");
    this.home();
    bringIntoView(this.panel.element);
  }

  address(jobId) {
    const { part } = this.what;
    setAddress({ [part]: jobId, tab: TAB_OF[part] }, jobId !== null);
  }

  open(jobId) {
    this.rest();
    this.follower.follow(jobId);
  }

  openFromList(job) {
    this.address(job.id);
    this.open(job.id);
    scrollTo(this.panel.element, "nearest");
  }

  rest() {
    this.cursor = -1;
    this.sampleStep = null;
    this.panel.clear();
    this.verdict.draw([]);
  }

  reset() {
    this.follower.leave();
    this.rest();
    if (askedFor(this.what.part)) this.address(null);
  }

  // Takes in the job of a view: false for another kind's. A page draws the rest.
  update(job) {
    if (job.kind !== this.what.kind) {
      this.reset();
      this.panel.say(this.what.wrong);
      return false;
    }
    const before = this.panel.job?.status;
    this.panel.update(job);
    if (before && before !== job.status) {
      emit("jobs-changed");
      if (job.status === "succeeded") emit("policies-changed"); // one is new, or what was measured of one
    }
    return true;
  }

  // Ending work of more than a minute is asked about.
  async act(name) {
    const { job } = this.panel;
    const worked = job.started_at ? Date.now() - Date.parse(job.started_at) : 0;
    if (name !== "cancel_job" || job.status !== "running" || worked < ASKED_FROM_MS) return this.send(name);
    const { noun } = this.what;
    const text = job.has_kept ? "You can resume from its last checkpoint."
      : "Nothing to resume yet: there is no checkpoint before the first text is done.";
    ask(this.root, { title: `Cancel this ${noun}?`, text,
      yes: `Cancel ${noun}`, no: `Keep ${noun}`, isDanger: true }, () => this.send(name));
  }

  async send(name) {
    await attempt(() => this.api(name, { job_id: this.panel.job.id }), this.panel.say);
    this.follower.wake?.();
    emit("jobs-changed");
  }

  clone(job) {
    return attempt(async () => {
      this.form.use(await this.api("job_settings", { kind: this.what.kind, job_id: job.id }));
      this.form.fail(null);
      scrollTo(this.form.element);
    }, this.form.fail);
  }
}

// A page whose jobs end with a drawn result. Before the first one it shows what ships with the program.
export class ResultPage extends JobPage {
  about = h("p", { class: "sol-hint" });
  figures = h("div", { class: "sol-figures" });
  /** @type {import("../shared/charts/plotly_chart.js").Figure[]} */
  drawn = [];

  // what: as of a JobPage, and files: forms in which a result is saved.
  constructor(root, api, page, what) {
    super(root, api, page, { ...what, shipped: page.shipped });
    this.exports = h("span", { class: "sol-tools", hidden: true },
      what.files.map((form) => smallButton(form.toUpperCase(), () => this.download(form))));
    whenThemeChanges(() => this.drawn.forEach((one) => one.redraw()));
    this.panel.tools.append(this.exports);
    const { title, machine, made } = page.shipped;
    const facts = [h("span", {}, "Shipped"), h("span", {}, machine),
      h("time", { datetime: made }, whenText(made))];
    this.list.element.append(h("ol", { class: "sol-history-list" }, listRow({ title, facts,
      href: linkTo({ [what.part]: SHIPPED }), open: () => this.openFromList({ id: SHIPPED }) })));
  }

  draw(answer) {}

  open(jobId) {
    if (jobId !== SHIPPED) return super.open(jobId);
    this.follower.leave();
    this.rest();
    this.panel.showShipped(this.what.shipped);
    this.showResult(SHIPPED);
  }

  reset() {
    super.reset();
    this.open(SHIPPED);
  }

  showPartial(partial) {}

  rest() {
    super.rest();
    this.shown = this.turn = null;
    this.drawFigures([]);
    [this.about, this.exports].forEach((part) => show(part, false));
  }

  download(form) {
    return attempt(async () => {
      const file = await this.api("export_result", { kind: this.what.kind, job_id: this.shown, form });
      saveFile(file.name, new Blob([file.text], { type: form === "json" ? "application/json" : "text/csv" }));
    }, this.panel.say);
  }

  view({ job, partial }) {
    if (!this.update(job)) return;
    const isOver = job.status === "succeeded";
    this.showPartial(isOver ? null : partial);
    if (isOver && this.shown !== job.id) this.showResult(job.id);
  }

  tellAbout(parts) {
    showText(this.about, parts.filter(Boolean).join(" · "));
  }

  drawFigures(figures) {
    this.drawn = figures;
    this.figures.replaceChildren(...figures.map((one) => one.element));
    figures.forEach((one) => one.redraw());
  }

  showResult(jobId) {
    this.shown = jobId;
    return attempt(async () => {
      const answer = await newest(this, this.api("job_result", { kind: this.what.kind, job_id: jobId }));
      show(this.exports, true);
      this.draw(answer);
    }, (words) => {
      this.shown = null;
      this.panel.say(words);
    }, "The result could not be loaded; trying again.");
  }
}
