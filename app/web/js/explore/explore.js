// The Explore room: the recorded dial, the form, the run on show with another one beside it, the address bar.

import { Beside } from "../compare/beside.js";
import { choicesOf, makeApi, RunFollower } from "../shared/api.js";
import { bringIntoView, chip, h, isTouch, setText, show, whenSeen } from "../shared/dom.js";
import { POLICY_PREFIX } from "../shared/forms/compute_fields.js";
import { recall, remember } from "../shared/memory.js";
import { pictureMenu } from "../shared/runs/picture.js";
import { RunPage } from "../shared/runs/run_page.js";
import { RunStage } from "../shared/runs/run_stage.js";
import { Status } from "../shared/runs/status.js";
import { askedFor, handOverTo, listen, noPlace, openInTab, setAddress, takeOver } from "../shared/tabs.js";
import { PageEffects } from "../shared/tokens/page_effects.js";
import { Controls } from "./controls.js";
import { RecordingView } from "./recording.js";

/** A run from start to end, beside the one on show. @returns {Promise<Token[]>} */
function runOf(api, prompt, settings, write = (rows) => {}, parent = null) {
  return new Promise((resolve, reject) => {
    const rows = [];
    const follower = new RunFollower(api, { rows: (more) => {
      rows.push(...more);
      write(more);
    }, view: (view) => {
      if (view.live || view.more) return;
      if (view.status === "finished") resolve(rows);
      else reject(new Error(view.error || "The run was stopped."));
    }, gone: reject });
    api("start_run", { prompt, settings, parent }).then(({ run_id: id }) => follower.follow(id), reject);
  });
}

function noticeLine(text) {
  const line = h("p", { class: "sol-message is-warn", role: "status" }, text,
    chip("Dismiss", () => line.remove()));
  return line;
}

class ExplorePage extends RunPage {
  constructor(root, api, page) {
    super(root, api, "run");
    this.isUnfolded = recall("explore").isUnfolded === true;
    this.form = new Controls(page, {
      generate: async (prompt, settings) => {
        if (await this.ask("start_run", { prompt, settings })) bringIntoView(this.status.element);
      },
      stop: () => this.stop(),
      toAnswer: () => (this.stage.elements()[0] ?? this.recording.dial).focus(),
      estimate: (settings, prompt) => api("estimate_budget", { settings, characters: prompt.length }),
      ...choicesOf(api),
    });
    const most = page.maxNewTokens;
    this.status = new Status({ ...this.statusHandlers, most, goOn: () => this.goOn(most) });
    this.lens = this.makeLens({ fork: (index, token) => this.fork(index, token) });
    this.stage = new RunStage(root, this.status, { ...this.stageHandlers,
      effects: (reading) => new PageEffects({ ...reading, id: () => this.follower.id,
        compare: (id) => openInTab("compare", `${this.follower.id},${id}`),
        ask: (name, request) => api(name, { run_id: this.follower.id, ...request }) }) },
    { hint: `${isTouch ? "Tap" : "Click"} a token: what if?`, whatIf: this.lens });
    const parent = () => this.follower.run.parent;
    this.ofFork = [chip("Open parent", () => this.open(parent(), "push"), { hidden: true }),
      chip("Compare with parent", () => openInTab("compare", `${parent()},${this.follower.id}`),
        { hidden: true })];
    this.recording = new RecordingView(page.recording, {
      answer: (prompt, settings) => runOf(api, prompt, { ...page.defaults, ...settings }),
      own: () => this.unfold(),
      learn: () => handOverTo("learn", "dial-turned", true),
    });
    this.beside = new Beside(api, page.defaults.schedule,
      { opened: () => this.showBeside(true), closed: (id) => this.open(id, "push") });
    this.tools = this.makeTools(pictureMenu(this.stage),
      chip("Compare …", () => openInTab("compare", this.follower.id)), ...this.ofFork);
    this.empty = this.recording.element;
    this.notices = h("div", { class: "sol-notices" });
    this.alone = this.stage.build({ over: this.empty, tools: this.tools });
    this.alone.classList.add("sol-alone");
    this.grid = h("div", { class: "sol-grid" });
    root.append(this.notices, this.grid);
    this.reset();
  }

  showBeside(isShown) {
    const parts = isShown ? [this.beside.element, this.beside.form.element] : [this.alone, this.form.element];
    if (parts[0].parentElement !== this.grid) this.grid.replaceChildren(...parts);
    const isCalm = !isShown && !this.follower.id && !this.isUnfolded;
    this.root.classList.toggle("is-calm", isCalm);
    show(this.recording.own, isCalm);
    setText(this.recording.label, isCalm ? "Compute" : "Example's compute"); // the form's dial is another
    if (!isShown) this.beside.leave();
  }

  unfold() {
    this.isUnfolded = true;
    remember("explore", { isUnfolded: true });
    this.showBeside(false);
    this.form.prompt.input.focus();
  }

  routeBeside() {
    const ids = askedFor("compare")?.split(",").slice(0, 2) ?? [];
    if (!ids.length) return false;
    this.follower.leave();
    this.clear();
    this.beside.open(ids);
    return true;
  }

  route() {
    if (this.routeBeside()) return;
    this.showBeside(false);
    super.route();
  }

  open(id, history) {
    if (history) setAddress({ compare: null });
    super.open(id, history);
    this.showBeside(false);
  }

  start() {
    listen("open-run", (detail) => this.open(detail, "push"));
    listen("open-compare", () => {
      setAddress({ run: null, ...noPlace("run") });
      this.routeBeside();
    });
    listen("policies-changed", () => this.form.fields.schedule.update());
    whenSeen(this.root, () => this.form.fields.schedule.update());
    takeOver("use-policy", (name) => {
      this.form.fields.schedule.set(POLICY_PREFIX + name);
      this.form.changed();
    });
    this.takeUp();
    this.routeBeside();
    if (!this.empty.hidden && this.alone.parentElement) this.recording.play();
  }

  // Goes on from here: the same run with another token at this place, as a run of its own.
  async fork(index, token) {
    const request = { run_id: this.follower.id, index, token_id: token };
    this.forkAt = await this.ask("fork_run", request, (words) => this.lens.complain(words)) ? index : null;
  }

  // A run that was interrupted, again; one that was cut off, with twice the tokens. What it read is kept.
  goOn(most) {
    const { prompt, settings } = this.follower.run;
    const isCut = this.stage.view.rows.length === settings.max_new_tokens;
    const tokens = Math.min((isCut ? 2 : 1) * settings.max_new_tokens, most);
    return this.ask("start_run", { prompt, settings: { ...settings, max_new_tokens: tokens } });
  }

  // Once the token put in has come, the focus, which was in what if, goes there.
  append(rows) {
    super.append(rows);
    const token = this.forkAt !== null && this.stage.elements()[this.forkAt];
    if (!token) return;
    this.forkAt = null;
    if (document.activeElement !== document.body) return;
    this.stage.view.reveal(token);
    token.focus({ preventScroll: true });
  }

  reset() {
    super.reset();
    this.showBeside(false);
  }

  begin(run) {
    super.begin(run);
    this.askEstimate();
    this.ofFork.forEach((one) => show(one, run.parent !== null));
  }

  askEstimate() {
    const { run } = this.follower;
    const request = { settings: run.settings, characters: run.prompt.length };
    const take = (estimate) => run === this.follower.run && this.status.setEstimate(estimate);
    if (run.settings) this.api("estimate_budget", request).then(take, () => {});
  }

  finish() {
    const { run } = this.follower;
    if (!this.status.zone) this.askEstimate(); // the model was not there at its beginning
    this.stage.reading.effects?.rankSoon();
    if (run.settings) this.status.offerFull((write) =>
      runOf(this.api, run.prompt, { ...run.settings, schedule: "dense", shadow: false }, write, run.id));
  }

  async home(call) {
    const home = await super.home(call);
    if (home && !this.noticed) {
      this.notices.append(...home.notices.map(noticeLine));
      this.noticed = true;
    }
    if (home?.model.state === "ready") this.fitRecording(home.model.facts);
    return home;
  }

  // The recording of the model that is there: answers of another number format break elsewhere.
  async fitRecording(facts) {
    const { recording } = this.recording;
    if (facts.dtype !== recording.dtype) {
      const other = await this.api("recording", { dtype: facts.dtype }).catch(() => recording);
      if (other.dtype !== recording.dtype) this.recording.exchange(other);
    }
    this.recording.compareWith(facts);
  }
}

export const mount = (root, server, page) => new ExplorePage(root, makeApi(server), page).start();
