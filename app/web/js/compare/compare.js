// The Compare tab: two runs of one prompt, followed as they are made, then compared. The address names both.

import { askedFor, linkTo, LOOK_NAMES, openInTab, setAddress, showTab } from "../shared/address.js";
import { makeApi, NOTHING_LOST, reasonOf } from "../shared/api.js";
import { bringIntoView, chip, h, setText, show, smallButton } from "../shared/dom.js";
import { exportMenu } from "../shared/download.js";
import { emit, listen, takeOver } from "../shared/events.js";
import { say } from "../shared/message.js";
import { copyChip } from "../shared/page_parts.js";
import { RunFollower } from "../shared/follower.js";
import { setPill } from "../shared/runs/status_line.js";
import { PairForm } from "./pair_form.js";
import { PairStage } from "./pair_stage.js";
import { sideName, SIDES } from "./pair_table.js";

const PAIR_HINT = "Both sides take their turns on the model, A first. Hover or focus a token for its card.";

class ComparePage {
  constructor(root, api, page) {
    this.api = api;
    this.ended = [false, false];
    this.form = new PairForm(page, {
      generate: (prompt, a, b) => this.generate(prompt, a, b), stop: () => this.stop(),
      saved: (a, b) => this.open([a, b], "push"),
      policies: async () => (await api("list_policies", {})).policies,
      runs: async () => (await api("list_runs", { query: "", before: null, limit: 100 })).runs,
    });
    this.links = SIDES.map((_, at) => chip("Open in Explore", () => openInTab("run", this.ids[at]), { hidden: true }));
    this.stage = new PairStage(root, PAIR_HINT, (at) => this.links[at],
      (key) => setAddress({ [LOOK_NAMES.compare.colour]: key }));
    this.followers = SIDES.map((_, at) => new RunFollower(api, {
      begin: (run) => this.begin(at, run), rows: (rows) => this.stage.append(at, rows),
      view: (state) => this.view(at, state), lost: () => this.say("The server does not answer; "
        + "trying again. What is shown stays.", "warn"),
      gone: (error) => this.gone(at, error),
    }));
    root.append(this.build());
    this.clear();
  }

  build() {
    this.link = copyChip("Copy link", () =>
      linkTo({ compare: this.address, [LOOK_NAMES.compare.colour]: this.stage.legend.axis.key }));
    this.message = h("p", { class: "sol-message", hidden: true });
    this.again = smallButton("Try again", () => this.compare(), { hidden: true });
    this.export = exportMenu(this.api, "comparison", () => this.address, (message) => this.say(message, "bad"));
    this.empty = h("div", { class: "sol-pair-empty" }, h("h2", {}, "The same prompt, twice"),
      h("p", {}, "Give both sides one prompt and seed, and each its own schedule, budget or mechanisms. Their "
        + "texts are laid side by side, the first token that differs is marked, and the dense "
        + "model scores both."));
    this.panel = this.stage.build({ over: this.empty, tools: [this.again, this.link, this.export] });
    return h("div", { class: "sol-grid" }, this.form.element,
      h("div", { class: "sol-stage" }, this.message, this.panel, this.stage.table.element));
  }

  clear() {
    this.turn = {};
    this.ended = [false, false];
    this.followers.forEach((follower) => follower.leave());
    this.stage.clear();
    show(this.empty, true);
    [...this.links, this.stage.place, this.again, this.link, this.export].forEach((one) => show(one, false));
    this.say(null);
  }

  async generate(prompt, a, b) {
    this.form.setBusy(true);
    try {
      const { runs } = await this.api("start_pair", { prompt, a, b });
      this.form.setBusy(false);
      this.open(runs, "push");
      bringIntoView(this.panel);
    } catch (error) {
      this.form.setBusy(false);
      this.form.fail(reasonOf(error, NOTHING_LOST));
    }
  }

  stop() {
    this.form.stopButton.disabled = true;
    for (const follower of this.followers) {
      this.api("stop_run", { run_id: follower.id }).catch(() => {});
    }
  }

  get address() {
    return this.ids?.join(",") ?? null;
  }

  // Nothing is on show.
  close() {
    this.ids = null;
    this.clear();
    this.form.setBusy(false);
  }

  start() {
    addEventListener("popstate", () => this.route());
    listen("open-compare", () => this.route());
    this.route();
    // A run was chosen in History: the other one is chosen here.
    takeOver("run-for-compare", (id) => this.form.choose(id));
  }

  route() {
    const colour = askedFor(LOOK_NAMES.compare.colour);
    if (colour) this.stage.legend.set(colour);
    const runs = askedFor("compare")?.split(",") ?? [];
    if (runs.length === 2) this.open(runs, null);
    else if (this.address) this.close();
  }

  // history: "push" changes the address; null when the address asked for it.
  open(runs, history) {
    if (this.address === runs.join(",")) return showTab("compare");
    this.ids = runs;
    if (history === "push") setAddress({ compare: runs.join(",") }, true);
    this.clear();
    show(this.empty, false);
    show(this.stage.place, true);
    show(this.link, true);
    this.form.setBusy(true);
    this.followers.forEach((follower, at) => follower.follow(runs[at]));
    showTab("compare");
  }

  begin(at, run) {
    this.stage.begin(at, run);
    const [one, other] = this.stage.sides.map((side) => side.run);
    if (one && other) this.form.take(one.prompt, [one.settings, other.settings]);
  }

  view(at, view) {
    this.stage.setState(at, view.status);
    if (view.status === "failed") this.say(`${sideName(SIDES[at])}: ${view.error}`, "bad");
    if (view.live || view.more) return;
    this.ended[at] = true;
    show(this.links[at], true);
    if (this.ended.every(Boolean)) this.finish();
  }

  gone(at, error) {
    this.followers[at].leave();
    this.form.setBusy(false);
    setPill(this.stage.sides[at].state, "Not there", "bad");
    this.say(`${sideName(SIDES[at])}: ${error.message}`, "bad");
  }

  finish() {
    this.form.setBusy(false);
    emit("runs-changed");
    this.stage.drawTable([]);
    show(this.export, true);
    this.compare();
  }

  async compare() {
    const turn = this.turn = {};
    show(this.again, false);
    setText(this.stage.parted, "The dense model reads both texts…");
    try {
      const view = await this.api("compare_runs", { a: this.ids[0], b: this.ids[1] });
      if (turn === this.turn) this.stage.draw(view);
    } catch (error) {
      if (turn !== this.turn) return;
      setText(this.stage.parted, reasonOf(error, "The server did not answer."));
      show(this.again, true);
    }
  }

  say(text, kind) {
    say(this.message, text, kind);
  }
}

export function mount(root, server, page) {
  new ComparePage(root, makeApi(server), page).start();
}
