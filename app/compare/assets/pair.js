// An A/B comparison: two runs of one prompt as they are made, then aligned, with the first token
// that differs marked, and both in numbers.

const PAIR_HINT = "Both sides take their turns on the model, A first. Hover or focus a token for its card.";

class PairPage {
  constructor(root, api, show) {
    this.api = api;
    this.show = show;
    this.axes = colourAxes(PAGE.limits);
    this.form = new PairForm({
      generate: (prompt, a, b) => this.generate(prompt, a, b), stop: () => this.stop(),
      saved: (a, b) => this.open([a, b], "push"),
      policies: async () => (await api("list_policies", {})).policies,
      runs: async () => (await api("list_runs", { query: "", before: null, limit: 100 })).runs,
    });
    this.card = new TokenCard(root, (row) => cardParts(row, this.sides[row.column]?.levels));
    this.sides = SIDES.map((side, at) => this.buildSide(side, at));
    this.card.onHide = () => this.mark(0, null);
    this.legend = new Legend(this.axes, (axis) => this.sides.forEach((one) => one.view.setAxis(axis)));
    this.table = new PairTable();
    this.element = this.build();
    this.clear();
  }

  buildSide(side, at) {
    const view = new TokenView(this.axes, {
      enter: (index, token) => this.enter(at, index, token),
      leave: () => this.card.hideSoon(),
      select: (range) => view.select(range),
      pick: () => {},
    });
    view.list.setAttribute("aria-label", `Tokens of ${sideName(side)}`);
    const made = { view, tally: new Tally(), rows: [], run: null, nll: null, ended: false };
    made.state = h("span", { class: "sol-state", "data-kind": "idle" }, "Nothing yet");
    made.detail = h("span", { class: "sol-detail" });
    made.link = h("button", { type: "button", class: "sol-chip", hidden: true, onclick: () =>
      openInExplore(made.run.id, this.show) }, "Open in Explore");
    made.head = h("header", { class: "sol-pair-head", "data-side": side },
      h("b", { class: "sol-side-letter" }, sideName(side)), made.state, made.detail, made.link);
    made.follower = new RunFollower(this.api, {
      begin: (run) => this.begin(at, run), rows: (rows) => this.rows(at, rows),
      view: (state) => this.view(at, state), lost: () => this.say("The server does not answer; "
        + "trying again. What is shown stays.", "warn"),
      gone: (error) => this.gone(at, error),
    });
    return made;
  }

  build() {
    this.parted = h("p", { class: "sol-pair-parted", role: "status" }, PAIR_HINT);
    this.link = h("button", { type: "button", class: "sol-chip", onclick: async () => {
      await copyText(location.href);
      flash(this.link, "Copied");
    } }, "Copy link");
    this.message = h("p", { class: "sol-message", hidden: true });
    this.again = h("button", { type: "button", class: "sol-button is-small", hidden: true,
      onclick: () => this.compare() }, "Try again");
    this.grid = h("div", { class: "sol-pair-grid sol-lines" }, this.sides.map((one) => one.head),
      this.sides.map((one) => one.view.list));
    this.place = h("div", { class: "sol-pair-scroll" }, this.grid);
    // Both lists scroll in one place.
    this.sides.forEach((one) => { one.view.element = this.place; });
    this.lead = h("div", { class: "sol-lead" });
    this.empty = h("div", { class: "sol-pair-empty" }, h("h2", {}, "The same prompt, twice"),
      h("p", {}, "Give both sides one prompt and seed, and each its own schedule or budget. Their "
        + "texts are laid side by side, the first token that differs is marked, and the dense "
        + "model scores both."));
    this.stage = h("section", { class: "sol-panel sol-pair", "aria-label": "Both texts" },
      this.legend.element, this.lead, this.empty, this.place,
      h("footer", { class: "sol-token-foot" }, this.parted, this.again, this.link));
    return h("div", { class: "sol-grid" }, this.form.element,
      h("div", { class: "sol-stage" }, this.message, this.stage, this.table.element));
  }

  clear() {
    this.card.hide();
    this.turn = {};
    this.partners = null;
    this.lead.replaceChildren();
    this.sides.forEach((one, at) => {
      one.follower.leave();
      Object.assign(one, { tally: new Tally(), rows: [], run: null, nll: null, ended: false });
      one.view.clear();
      one.view.startBlock(blockAttributes(0, at, true));
      setText(one.state, "Nothing yet");
      one.state.dataset.kind = "idle";
      setText(one.detail, "");
      show(one.link, false);
    });
    show(this.empty, true);
    show(this.place, false);
    show(this.table.element, false);
    show(this.again, false);
    show(this.link, false);
    setText(this.parted, PAIR_HINT);
    this.say(null);
  }

  async generate(prompt, a, b) {
    this.form.setBusy(true);
    try {
      const { runs } = await this.api("start_pair", { prompt, a, b });
      this.form.setBusy(false);
      this.open(runs, "push");
      bringIntoView(this.stage);
    } catch (error) {
      this.form.setBusy(false);
      this.form.fail(error.refused ? error.message
        : "The server does not answer. Nothing you typed is lost; try again in a moment.");
    }
  }

  stop() {
    this.form.stop.disabled = true;
    for (const { follower } of this.sides) {
      this.api("stop_run", { run_id: follower.runId }).catch(() => {});
    }
  }

  get address() {
    return this.ids?.join(",") ?? null;
  }

  // history: "push" changes the address; null when the address asked for it.
  open(runs, history) {
    if (this.address === runs.join(",")) return this.show("compare");
    this.ids = runs;
    if (history === "push") window.history.pushState(null, "", addressOf("compare", runs.join(",")));
    this.clear();
    show(this.empty, false);
    show(this.place, true);
    show(this.link, true);
    this.form.setBusy(true);
    this.sides.forEach((one, at) => one.follower.follow(runs[at]));
    this.show("compare");
  }

  begin(at, run) {
    const side = this.sides[at];
    side.run = run;
    side.levels = gridLevels(run);
    const { kind, policy, asked } = scheduleOf(run);
    const name = policy ? `Policy ${modelName(policy)}` : PAGE.schedules[kind] ?? kind;
    setText(side.detail, kind === "dense" ? name
      : `${name} · ${AXES.map((axis, n) => axis.show(asked[n])).join(" · ")} bits`);
    if (at === 0) this.lead.replaceChildren(...leadParts(run));
    const [one, other] = this.sides.map((each) => each.run);
    if (one && other) this.form.take(one.prompt, [one.settings, other.settings]);
  }

  rows(at, rows) {
    const side = this.sides[at];
    for (const row of rows) {
      row.column = at;
      side.rows.push(row);
      side.tally.add(row);
    }
    side.view.append(rows);
  }

  view(at, view) {
    const side = this.sides[at];
    const [name, kind] = STATES[view.status] ?? [view.status, "idle"];
    setText(side.state, name);
    side.state.dataset.kind = kind;
    if (view.status === "failed") this.say(`${sideName(SIDES[at])}: ${view.error}`, "bad");
    if (view.live || view.more) return;
    side.ended = true;
    show(side.link, true);
    if (this.sides.every((one) => one.ended)) this.finish();
  }

  gone(at, error) {
    this.sides[at].follower.leave();
    this.form.setBusy(false);
    setText(this.sides[at].state, "Not there");
    this.sides[at].state.dataset.kind = "bad";
    this.say(`${sideName(SIDES[at])}: ${error.message}`, "bad");
  }

  finish() {
    this.form.setBusy(false);
    dispatchEvent(new CustomEvent("sol:runs-changed"));
    this.drawTable([]);
    this.compare();
  }

  async compare() {
    const turn = this.turn = {};
    show(this.again, false);
    setText(this.parted, "The dense model reads both texts…");
    try {
      const view = await this.api("compare_runs", { a: this.ids[0], b: this.ids[1] });
      if (turn === this.turn) this.draw(view);
    } catch (error) {
      if (turn !== this.turn) return;
      setText(this.parted, error.refused ? error.message : "The server did not answer.");
      show(this.again, true);
    }
  }

  draw(view) {
    this.sides.forEach((one, at) => { one.nll = view.sides[at].nll; });
    if (view.stretches) this.align(view.stretches);
    const ends = this.sides.map((one) => one.rows.length);
    if (!view.same_prompt) {
      setText(this.parted, "The prompts differ, so the texts stand side by side and are not aligned.");
    } else if (view.parted === null) {
      setText(this.parted, `Both sides wrote the same ${count(ends[0], "token")}.`);
    } else {
      const same = view.stretches.filter(([is]) => is).reduce((sum, [, a, b]) => sum + b - a, 0);
      setText(this.parted, `First difference at token ${view.parted + 1}. `
        + `${count(same, "token")} of ${Math.max(...ends)} agree, later agreements of three or more included.`);
      this.sides.forEach((one) => one.view.elements[view.parted]?.classList.add("is-parted"));
    }
    this.drawTable(view.sides.map((side, at) => side.problem && `${sideName(SIDES[at])}: ${side.problem}`)
      .filter(Boolean));
  }

  drawTable(problems) {
    show(this.table.element, true);
    this.table.render(this.sides, problems);
  }

  // Lays both texts out again, stretch by stretch: what belongs together stands in one row.
  align(stretches) {
    this.partners = this.sides.map(() => new Map());
    for (const one of this.sides) one.view.clear();
    stretches.forEach(([same, a, aEnd, b, bEnd], row) => {
      [[a, aEnd], [b, bEnd]].forEach(([from, to], at) => {
        const block = this.sides[at].view.startBlock(blockAttributes(row, at, same));
        this.sides[at].view.append(this.sides[at].rows.slice(from, to));
        if (from === to) block.append(h("span", { class: "sol-muted" }, "nothing here"));
      });
      for (let step = 0; same && step < aEnd - a; step += 1) {
        this.partners[0].set(a + step, b + step);
        this.partners[1].set(b + step, a + step);
      }
    });
    this.place.scrollTop = 0;
  }

  enter(at, index, token) {
    this.card.show(this.sides[at].rows[index], token);
    this.mark(at, index);
  }

  // A token and, where both sides agree, its partner.
  mark(at, index) {
    this.sides[at].view.mark(index);
    const partner = index === null ? null : this.partners?.[at].get(index) ?? null;
    this.sides[1 - at].view.mark(partner);
  }

  say(text, kind) {
    setText(this.message, text || "");
    this.message.className = `sol-message is-${kind}`;
    this.message.setAttribute("role", kind === "bad" ? "alert" : "status");
    show(this.message, Boolean(text));
  }
}

function blockAttributes(row, at, same) {
  return { class: `sol-pair-block${same ? "" : " is-apart"}`, "data-side": SIDES[at], "--row": row + 1,
    "--side": at + 1 };
}
