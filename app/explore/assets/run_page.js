// What pages that run something on the model do alike: start and stop it, show the run that the
// address names, find this visitor's live one again, and wait for the model. A page draws the rest.

class RunPage {
  // part: the run's name in the address; ofRun: parts of the address that mean something in one
  // run only, as setAddress takes them. A page has form, status, follower, empty and tools.
  constructor(root, api, showTab, part, ofRun = {}) {
    Object.assign(this, { root, api, showTab, part, ofRun });
  }

  follow(on) {
    return new RunFollower(this.api, { ...on, view: (view, run) => this.view(view, run),
      lost: () => this.lost(), gone: (error) => this.gone(error) });
  }

  // Opens what the address names, else what is going on; from then on follows the address.
  async takeUp() {
    addEventListener("popstate", () => this.route());
    addEventListener("sol:run-deleted", (event) => this.deleted(event.detail));
    this.watchModel();
    const asked = askedFor(this.part);
    if (asked) return this.open(asked);
    const home = await this.home();
    if (home?.active && !this.follower.runId) this.open(home.active, "replace");
  }

  // Back or forward: the address names another run.
  route() {
    const asked = askedFor(this.part);
    if (asked === this.follower.runId) return;
    if (asked) this.open(asked);
    else this.reset();
  }

  // Starts a run by a function of Python; the id, or null where it was refused.
  async ask(call, request) {
    this.form.setBusy(true);
    try {
      const { run_id: id } = await this.api(call, request);
      this.liveId = id;
      this.open(id, "push");
      return id;
    } catch (error) {
      this.form.setBusy(false);
      this.form.fail(error.refused ? error.message
        : "The server does not answer. Nothing you typed is lost; try again in a moment.");
      return null;
    }
  }

  stop() {
    if (!this.liveId) return;
    this.form.stopButton.disabled = true;
    this.api("stop_run", { run_id: this.liveId }).catch(() => {
      this.form.stopButton.disabled = false;
    });
  }

  // history: "push" when somebody asked for it here, which brings the tab to the front, "replace"
  // when it was found; else the address names it already.
  open(id, history) {
    if (history === "push") {
      const isNew = id !== askedFor(this.part);
      setAddress({ [this.part]: id, tab: TAB_OF[this.part], ...(isNew && this.ofRun) }, isNew);
      this.showTab();
    } else if (history === "replace") setAddress({ [this.part]: id });
    this.clear();
    show(this.empty, false);
    this.status.setState("opening", "");
    this.follower.follow(id);
  }

  reset() {
    this.follower.leave();
    this.clear();
    show(this.empty, true);
    this.status.setState("idle", "");
    if (this.model) this.status.showModel(this.model);
    this.offerLive();
  }

  view(view, run) {
    if (view.live) this.liveId = run.id;
    else if (run.id === this.liveId) this.liveId = null;
    this.form.setBusy(view.live);
    if (view.live && view.stopping) this.form.stopButton.disabled = true;
    this.draw(view, run);
    show(this.status.retry, view.status === "failed" && this.model?.state === "failed");
    if (!view.live && !view.more) {
      this.finish(view);
      dispatchEvent(new CustomEvent("sol:runs-changed"));
    }
    this.offerLive();
  }

  lost() {
    this.status.say("The server does not answer; trying again. What is shown stays.", "warn");
  }

  gone(error) {
    if (this.liveId === this.follower.runId) this.liveId = null;
    this.follower.leave();
    this.form.setBusy(false);
    show(this.empty, true);
    this.status.setState("idle", "");
    this.status.say(error.message, "bad");
  }

  deleted(id) {
    if (id !== this.follower.runId) return;
    setAddress({ [this.part]: null, ...this.ofRun });
    this.reset();
  }

  // Another run is on show while one of this visitor's is going on: offer the way back.
  offerLive() {
    const elsewhere = Boolean(this.liveId) && this.liveId !== this.follower.runId;
    show(this.status.back, elsewhere);
    if (elsewhere || !this.follower.runId) this.form.setBusy(elsewhere);
  }

  // --- the model ------------------------------------------------------------------------------

  async home() {
    try {
      const home = await this.api("home", {});
      this.model = home.model;
      if (!this.follower.runId) this.status.showModel(home.model);
      return home;
    } catch {
      if (!this.follower.runId) this.lost();
      return null;
    }
  }

  async watchModel() {
    await this.home();
    while (this.model?.state !== "ready" && this.model?.state !== "failed") {
      await wait(400);
      await this.home();
    }
  }

  async retryModel() {
    try {
      await this.api("retry_model", {});
    } catch {
      return this.lost();
    }
    this.model = null;
    show(this.status.retry, false);
    this.watchModel();
  }
}
