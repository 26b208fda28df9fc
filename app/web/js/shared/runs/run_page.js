// A page that runs something on the model and shows the run that the address names. A page adds the drawing.

import { attempt, NOTHING_LOST, RunFollower } from "../api.js";
import { chip, copyText, h, isTouch, scrollTo, show, wait } from "../dom.js";
import { gridLevels } from "../format.js";
import { LensPanel } from "../lens/lens.js";
import { copyChip, exportMenu } from "../page_parts.js";
import { askedFor, emit, linkTo, listen, LOOK_NAMES, noPlace, setAddress, showTab, TAB_OF } from "../tabs.js";
import { answerText } from "../tokens/token_text.js";

export class RunPage {
  form;
  stage;
  /** @type {import("./status_line.js").StatusLine} */
  status;
  /** @type {LensPanel} */
  lens;
  /** In place of a run. @type {HTMLElement} */
  empty;
  /** @type {HTMLElement} */
  tools;
  stageHandlers = { pick: (index, at) => this.pick(index, at),
    colour: (key) => setAddress({ [this.names.colour]: key }) };
  statusHandlers = { retry: () => this.retryModel(), backToLive: () => this.open(this.liveId, "push") };

  clear() {
    this.stage.clear();
    this.lens.clear();
    this.status.setBar(null);
    this.status.say(null);
    show(this.status.retry, false);
    this.showBare(true);
  }

  begin(run) {
    this.stage.begin(run);
    // A run that was not asked for here brings its own text and settings.
    if (run.settings && run.id !== this.liveId) this.form.reuse(run);
  }

  append(rows) {
    this.stage.append(rows);
  }

  finish(view) {}

  constructor(root, api, part) {
    this.root = root;
    this.api = api;
    this.part = part;
    this.names = LOOK_NAMES[part];
    this.follower = new RunFollower(api, { begin: (run) => this.begin(run), rows: (rows) => this.append(rows),
      view: (view, run) => this.view(view, run), lost: () => this.lost(),
      gone: (error) => this.gone(error) });
  }

  makeLens(more = {}) {
    return new LensPanel(this.api, { ...more, close: (hadFocus) => this.unpick(hadFocus) });
  }

  makeTools(...more) {
    const link = () => linkTo({ [this.part]: this.follower.id,
      ...Object.fromEntries(Object.values(this.names).map((name) => [name, askedFor(name)])),
      [this.names.colour]: this.stage.legend.axis.key });
    const again = chip("Ask again", () => this.form.element.querySelector("textarea")?.focus(),
      { class: "sol-chip is-narrow" }); // where the form is below
    return h("div", { class: "sol-tools" }, again, copyChip("Copy link", link), more,
      exportMenu(this.api, this.part, () => this.follower.id, (message) => this.status.say(message, "bad"),
        { seen: () => this.stage.seen, more: [{ name: "Copy text", hint: "without the prompt",
          act: () => copyText(answerText(this.stage.rows())) }] }));
  }

  // Opens what the address names, else what is going on; from then on follows the address.
  async takeUp() {
    addEventListener("popstate", () => this.route());
    listen("run-deleted", (detail) => this.deleted(detail));
    this.showColour();
    this.stage.card.dock = this.form.element;
    const asked = askedFor(this.part);
    if (asked) this.open(asked);
    const home = await this.home();
    const isFree = !asked && !this.follower.id && !askedFor("compare");
    if (home?.active && isFree) this.open(home.active, "replace");
    this.watchModel();
  }

  // Back or forward: the address names another run, token or colour.
  route() {
    this.showColour();
    const asked = askedFor(this.part);
    if (asked !== this.follower.id) return asked ? this.open(asked) : this.reset();
    // While its tokens still come, the place is shown at their end.
    if (asked && !this.wantsPlace && askedFor(this.names.token) !== this.place) this.showPlace();
  }

  // Starts a run by a function of Python; the id, or null where it was refused, which fail(words) says.
  async ask(call, request, fail = this.form.fail) {
    this.form.setBusy(true);
    this.stopsAtOnce = false;
    let id = null;
    await attempt(async () => {
      ({ run_id: id } = await this.api(call, request));
      this.liveId = id;
      this.open(id, "push");
      if (this.stopsAtOnce) this.stop();
    }, (words) => { this.form.setBusy(false); fail(words); }, NOTHING_LOST);
    return id;
  }

  stop() {
    this.focusAnswer();
    this.form.stopButton.disabled = true;
    this.stopsAtOnce = !this.liveId; // the server has not named the run yet
    if (this.stopsAtOnce) return;
    this.api("stop_run", { run_id: this.liveId }).catch(() => { this.form.stopButton.disabled = false; });
  }

  // From the Stop button, for who uses keys, before it takes the focus away.
  focusAnswer() {
    if (!this.form.stopButton.matches(":focus-visible")) return;
    this.stage.elements(this.stage.columns[0]?.at)[0]?.focus({ preventScroll: true });
  }

  // history: "push" where somebody asked for it, "replace" where it was found; else the address names it.
  open(id, history) {
    if (history === "push") {
      const isNew = id !== askedFor(this.part);
      setAddress({ ...(isNew && noPlace(this.part)), [this.part]: id, tab: TAB_OF[this.part] }, isNew);
      showTab(TAB_OF[this.part]);
    } else if (history === "replace") setAddress({ [this.part]: id });
    this.wantsPlace = true;
    this.place = null;
    this.clear();
    this.showEmpty(false);
    this.status.setState("opening", "");
    this.follower.follow(id);
  }

  // A class, not :has(): that looks through the whole stage with every token.
  showEmpty(isEmpty) {
    show(this.empty, isEmpty);
    this.root.classList.toggle("is-empty", isEmpty);
  }

  // Without a token there is nothing to colour or to draw.
  showBare(isBare) {
    this.tools.closest(".sol-stage")?.classList.toggle("is-bare", isBare);
  }

  reset() {
    this.follower.leave();
    this.clear();
    this.showEmpty(true);
    this.status.setState("idle", "");
    if (this.model) this.status.showModel(this.model);
    this.offerLive();
  }

  view(view, run) {
    if (view.live) this.liveId = run.id;
    else if (run.id === this.liveId) this.liveId = null;
    if (!view.live) this.focusAnswer();
    this.form.setBusy(view.live);
    if (view.live && view.stopping) this.form.stopButton.disabled = true;
    this.stage.setLive(view.live && view.status === "running");
    this.stage.update(view, run, this.model);
    this.showBare(!this.stage.rows(this.stage.columns[0]?.at).length);
    show(this.status.retry, view.status === "failed" && this.model?.state === "failed");
    if (!view.live && !view.more) {
      this.stage.finish(view);
      this.finish(view);
      if (this.lens.waits) this.lens.ask();
      if (this.wantsPlace) this.showPlace();
      emit("runs-changed");
    }
    this.offerLive();
  }

  lost() {
    this.status.setState("lost", "");
    this.status.setBar(null);
    this.status.say("The server does not answer. Retrying; what is shown stays.", "warn");
  }

  gone(error) {
    if (this.liveId === this.follower.id) this.liveId = null;
    this.follower.leave();
    this.form.setBusy(false);
    this.showEmpty(true);
    this.status.setState("gone", "");
    this.status.say(error.message, "bad");
  }

  deleted(id) {
    if (id !== this.follower.id) return;
    setAddress({ [this.part]: null, ...noPlace(this.part) });
    this.reset();
  }

  offerLive() {
    const elsewhere = Boolean(this.liveId) && this.liveId !== this.follower.id;
    show(this.status.back, elsewhere);
    if (elsewhere || !this.follower.id) this.form.setBusy(elsewhere);
  }

  showColour() {
    const asked = askedFor(this.names.colour);
    if (asked && asked !== this.stage.legend.axis.key) this.stage.legend.set(asked);
  }

  showPlace() {
    this.wantsPlace = false;
    const [number, at = 0] = (askedFor(this.names.token) ?? "").split(".").map(Number);
    const isThere = (at === 0 || this.stage.names[at]) && this.stage.rows(at)[number - 1];
    if (!isThere) return this.lens.close();
    this.stage.reveal(number - 1);
    this.pick(number - 1, at);
  }

  // Asks what if of a token, whose place the address then has: its number, and of several texts its text's.
  pick(index, at) {
    const { run } = this.follower;
    if (!run || !gridLevels(run)) return;
    const hasTexts = this.stage.names.length > 0;
    this.stage.pick(index, at);
    this.place = hasTexts ? `${index + 1}.${at}` : String(index + 1);
    setAddress({ [this.names.token]: this.place });
    this.lens.open(run, this.liveId === run.id, this.stage.rows(at), index, hasTexts ? { row: at } : {});
    this.stage.card.hide(); // it makes way
    this.stage.mark(index, false, at);
    scrollTo(this.lens.element, isTouch ? "start" : "nearest");
  }

  unpick(hadFocus = false) {
    this.place = null;
    if (hadFocus) this.root.querySelector(".sol-lines .is-picked")?.focus({ preventScroll: true });
    this.stage.resting = this.stage.picked[0] ?? this.stage.resting;
    this.stage.pick(null);
    setAddress({ [this.names.token]: null });
  }

  async home(call = "home") {
    try {
      const home = await this.api(call, {});
      this.model = home.model;
      if (!this.follower.id) this.status.showModel(home.model);
      return home;
    } catch {
      if (!this.follower.id) this.lost();
      return null;
    }
  }

  async watchModel() {
    while (this.model?.state !== "ready" && this.model?.state !== "failed") {
      await wait(400);
      await this.home();
    }
    this.form.dial.refresh();
  }

  async retryModel() {
    if (!await this.home("retry_model")) return;
    show(this.status.retry, false);
    this.watchModel();
  }
}
