// Explore's second column: a run with another one beside it, both in the address.

import { attempt, choicesOf, newest, NOTHING_LOST, RunFollower } from "../shared/api.js";
import { chip, h, say, selectOf, setText, show, smallButton } from "../shared/dom.js";
import { isLeftToStatic, scheduleOf } from "../shared/format.js";
import { mechanismsField, scheduleField } from "../shared/forms/compute_fields.js";
import { RunForm } from "../shared/forms/form.js";
import { folded, labelled, numberField, pillsField, runOptions } from "../shared/forms/form_parts.js";
import { copyChip, exportMenu } from "../shared/page_parts.js";
import { setPill } from "../shared/runs/status_line.js";
import { askedFor, emit, linkTo, LOOK_NAMES, openInTab, setAddress } from "../shared/tabs.js";
import { TOKEN_HINT } from "../shared/tokens/token_stage.js";
import { PairStage, sideName, SIDES } from "./pair_stage.js";

const OTHERS = { schedule: "Another schedule", run: "A saved run" };

const USUAL_SHARE = 70; // percent of the bytes

class BesideForm extends RunForm {
  // usual: the schedule that runs begin with here
  constructor(on, usual) {
    super();
    this.on = on;
    this.usual = usual === "static" ? "emc" : usual;
    /** The run to compare with. @type {any} */
    this.first = null;
    this.matched = 100; // percent of the bytes that it spent
    this.source = pillsField({ legend: "Compare with", choices: OTHERS, value: "schedule",
      changed: () => this.changed() });
    this.fields = {
      schedule: scheduleField(on.policies),
      share: numberField({ label: "Compute", min: 1, max: 100,
        hint: "Percentage of the full model's bytes. It starts at A's." }),
      grid: mechanismsField(),
    };
    const { schedule, share, grid } = this.fields;
    this.ofSchedule = h("div", { class: "sol-side-body" }, schedule.element, share.element,
      folded("Mechanisms", grid.element));
    this.run = selectOf([]);
    this.ofRun = h("div", { class: "sol-side-body" }, labelled("Saved run", null, this.run));
    this.element = this.lay(this.source.element, this.ofSchedule, this.ofRun, this.actions("Compare"),
      chip("Back to the answer", () => on.close()));
    this.element.setAttribute("aria-label", "Compare with");
  }

  changed() {
    const isRun = this.source.get() === "run";
    show(this.ofSchedule, !isRun);
    show(this.ofRun, isRun);
    this.fields.share.input.disabled = this.fields.schedule.get() === "dense";
    if (isRun && !this.run.options.length) this.list();
  }

  list() {
    return attempt(async () => {
      const runs = (await this.on.runs()).filter((run) => run.id !== this.first?.id);
      this.run.replaceChildren(...runOptions(runs));
    }, this.fail);
  }

  // The run to compare with; settings are null where this release cannot read them.
  take(run) {
    if (run.id === this.first?.id) return;
    this.first = run;
    this.run.replaceChildren();
    const { kind } = scheduleOf(run);
    this.setValues({ schedule: kind === "static" ? this.usual : "static",
      grid: run.settings?.grid ?? "policy" });
    if (!run.settings) this.source.set("run");
    this.fields.share.set(this.matched);
    this.matchSpend(1);
    this.changed();
  }

  // isStatic: static took the first run's steps, so it would write the same.
  matchSpend(spent, isStatic = false) {
    if (isStatic && this.fields.schedule.get() === "static") this.fields.schedule.set("dense");
    const isUntouched = this.fields.share.get() === this.matched;
    const isFull = scheduleOf(this.first).kind === "dense"; // as much would be the same again
    this.matched = isFull ? USUAL_SHARE : Math.min(Math.max(Math.round(100 * spent), 1), 100);
    if (isUntouched) this.fields.share.set(this.matched);
  }

  // Where A had a budget for each axis, an untouched share keeps these.
  send() {
    if (this.source.get() === "run") return this.run.value && this.on.saved(this.run.value);
    const { schedule, share, grid } = this.values();
    const { schedule: kind, share: asked } = this.first?.settings ?? {};
    const isOwn = share === this.matched && kind !== "dense" && !asked;
    return this.on.generate({ schedule, grid, shadow: true, ...(!isOwn && { share }) });
  }
}

export class Beside {
  /** Ids of both runs, of the first alone while the other is chosen, or none. @type {string[]} */
  ids = [];
  ended = [false, false];

  // on: {opened(), closed(runId): the answer alone}
  constructor(api, usual, on) {
    this.api = api;
    this.on = on;
    this.form = new BesideForm({
      generate: (changes) => this.generate(changes), stop: () => this.stop(),
      saved: (id) => this.show([this.ids[0], id]), close: () => on.closed(this.ids[0]), ...choicesOf(api),
    }, usual);
    this.links = SIDES.map((_, at) =>
      chip("Open alone", () => openInTab("run", this.ids[at]), { hidden: true }));
    this.element = h("div", { class: "sol-stage" });
    this.stage = new PairStage(this.element, TOKEN_HINT, (at) => this.links[at],
      { colour: (key) => setAddress({ [LOOK_NAMES.compare.colour]: key }) });
    this.followers = SIDES.map((_, at) => new RunFollower(api, {
      begin: (run) => this.begin(at, run), rows: (rows) => this.stage.append(at, rows),
      view: (state) => this.view(at, state),
      lost: () => say(this.message, "The server does not answer. Retrying; what is shown stays.", "warn"),
      gone: (error) => this.gone(at, error),
    }));
    this.message = h("p", { class: "sol-message", hidden: true });
    this.again = smallButton("Try again", () => this.compare(), { hidden: true });
    this.link = copyChip("Copy link", () =>
      linkTo({ compare: this.address, [LOOK_NAMES.compare.colour]: this.stage.legend.axis.key }));
    this.export = exportMenu(api, "comparison", () => this.address,
      (message) => say(this.message, message, "bad"));
    const stage = this.stage.build([this.again, this.link, this.export]);
    this.element.append(this.message, stage, this.stage.table);
    this.clear();
  }

  get address() {
    return this.ids.join(",");
  }

  clear() {
    this.turn = {};
    this.ended = [false, false];
    this.followers.forEach((follower) => follower.leave());
    this.stage.clear();
    [...this.links, this.again, this.link, this.export].forEach((one) => show(one, false));
    this.form.fail(null);
    say(this.message, null);
  }

  leave() {
    this.ids = [];
    this.clear();
    this.form.setBusy(false);
  }

  generate(changes) {
    const { prompt, settings } = this.form.first;
    this.form.setBusy(true);
    return attempt(async () => {
      const { run_id: id } = await this.api("start_run", { prompt, settings: { ...settings, ...changes } });
      this.show([this.ids[0], id]);
    }, (words) => { this.form.setBusy(false); this.form.fail(words); }, NOTHING_LOST);
  }

  stop() {
    this.form.stopButton.disabled = true;
    this.api("stop_run", { run_id: this.ids.at(-1) }).catch(() => {});
  }

  show(ids) {
    setAddress({ run: null, compare: ids.join(",") }, true);
    this.open(ids);
  }

  open(ids) {
    const colour = askedFor(LOOK_NAMES.compare.colour);
    if (colour) this.stage.legend.set(colour);
    if (this.address === ids.join(",")) return;
    this.ids = ids;
    this.clear();
    show(this.link, ids.length === 2);
    this.form.setBusy(ids.length === 2);
    this.followers.forEach((follower, at) => ids[at] && follower.follow(ids[at]));
    this.on.opened();
  }

  begin(at, run) {
    this.stage.begin(at, run);
    if (at === 0) this.form.take(run);
  }

  view(at, view) {
    this.stage.setState(at, view.status);
    if (view.status === "failed") say(this.message, `${sideName(SIDES[at])}: ${view.error}`, "bad");
    if (view.live || view.more) return;
    this.ended[at] = true;
    show(this.links[at], true);
    const { run, rows, tally } = this.stage.sides[at];
    if (this.ids.every((_, side) => this.ended[side])) this.stage.place.scrollTop = 0;
    if (at === 0 && rows.length) this.form.matchSpend(tally.bytes, isLeftToStatic(run, rows));
    if (this.ended.every(Boolean)) this.finish();
  }

  gone(at, error) {
    this.followers[at].leave();
    this.form.setBusy(false);
    setPill(this.stage.sides[at].state, "Not there", "bad");
    say(this.message, `${sideName(SIDES[at])}: ${error.message}`, "bad");
  }

  finish() {
    this.form.setBusy(false);
    emit("runs-changed");
    this.stage.drawTable([]);
    show(this.export, true);
    this.compare();
  }

  compare() {
    const [a, b] = this.ids;
    show(this.again, false);
    setText(this.stage.parted, "The full model reads both texts…");
    return attempt(async () => {
      this.stage.draw(await newest(this, this.api("compare_runs", { a, b })));
    }, (words) => { setText(this.stage.parted, words); show(this.again, true); });
  }
}
