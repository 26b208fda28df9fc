// Beat the policy: a text whose tokens are painted with levels, by mouse, touch or keys, within the
// budget that the policy spent; scored beside the policy, static and random schedules.

import { askedFor, linkTo, setAddress } from "../shared/address.js";
import { NOTHING_LOST, reasonOf } from "../shared/api.js";
import { bringIntoView, button, chip, h, setText, show, uniqueId } from "../shared/dom.js";
import { exportMenu } from "../shared/download.js";
import { actionOf, AXES, count } from "../shared/format.js";
import { askToDelete } from "../shared/forms/dialog.js";
import { labelled, pillChoice } from "../shared/forms/form_parts.js";
import { memory, remember } from "../shared/memory.js";
import { say } from "../shared/message.js";
import { copyChip } from "../shared/page_parts.js";
import { TokenCard } from "../shared/tokens/card.js";
import { levelText } from "../shared/tokens/card_policy.js";
import { Legend } from "../shared/tokens/legend.js";
import { klAxis, surprisalAxis, TokenView } from "../shared/tokens/tokens.js";
import { ChallengeForm } from "./challenge_form.js";
import { meter } from "./challenge_meter.js";
import { challengeCard, ScoreBoard, ScoreTable } from "./challenge_scores.js";
import { keptPlaces, Painting } from "./painting.js";
import { TokenDuel } from "./token_duel.js";

const AXIS_KEYS = AXES.map((axis) => axis.name[0]);
const PAINT_HINT = "Drag over tokens to paint. Keys: arrows move, Shift + arrows select, + and − change by one level, "
  + `1 … 9, 0 set lowest to highest, ${AXIS_KEYS.join(" ")} choose the axis, Enter paints the brush, Ctrl + Z undoes.`;

export class ChallengePage {
  constructor(root, api, toFront, page) {
    this.api = api;
    this.page = page;
    this.toFront = toFront;
    this.axes = [this.paintedAxis(), surprisalAxis, klAxis("Your KL")];
    this.axisChoice = pillChoice("Paint", AXES.map((axis) => [axis.key, axis.name]),
      (key) => this.chooseAxis(AXES.findIndex((axis) => axis.key === key)));
    this.meters = AXES.map((axis) => meter(axis));
    this.painting = new Painting({ levels: [], limit: [], steps: 0 });
    this.form = new ChallengeForm(page, { begin: (request) => this.begin(request),
      policies: () => api("list_policies", {}) });
    this.card = new TokenCard(root, (row) => challengeCard(row, this.scores));
    this.card.onHide = () => this.mark(null);
    this.view = new TokenView(this.axes, {
      enter: (index, token) => this.enter(index, token),
      leave: () => this.card.hideSoon(),
      select: (range) => this.view.select(range),
      pick: (index) => this.paint([index, index], () => this.brush),
    }, "Painted tokens");
    this.view.list.classList.add("sol-paintable");
    this.legend = new Legend(this.axes, (axis) => this.view.setAxis(axis), "paintColour");
    this.table = new ScoreTable();
    this.duel = new TokenDuel({ enter: (index) => this.mark(index), leave: () => this.mark(null) });
    this.board = new ScoreBoard({ take: (entry) => this.load(entry.actions),
      remove: (entry) => askToDelete(this.element, "Delete this attempt for good?", "Its schedule is lost with it.",
        () => this.remove(entry)) },
    exportMenu(api, "scoreboard", () => this.challenge.id, (message) => this.say(message, "bad"), "Export the scoreboard"));
    this.results = [this.table.element, this.duel.element, this.board.element];
    this.element = this.build();
    this.listen();
    this.close();
  }

  build() {
    this.message = h("p", { class: "sol-message", hidden: true });
    this.empty = h("section", { class: "sol-panel sol-challenge-empty" },
      h("h2", {}, "Can you spend it better?"),
      h("p", {}, "The policy reads the model's state and decides what each token gets. Take its "
        + "budget and paint your own schedule over the same tokens. You win if it stays closer to the dense "
        + "model than the policy's and than the same level for all, whichever of the two is better."),
      h("ol", {}, h("li", {}, "Choose a text, or paste one, and press Begin: the policy plays first."),
        h("li", {}, "Paint: all tokens begin at the lowest levels; give more to those that need it. The meters show what is left."),
        h("li", {}, "Score it, and show your squares around. Your best attempts stay on the scoreboard of this text.")));
    this.stage = h("div", { class: "sol-stage" }, this.message, this.empty,
      this.buildPaper(), ...this.results);
    return h("div", { class: "sol-grid" }, this.form.element, this.stage);
  }

  // The axis under the brush, as a colour.
  paintedAxis() {
    const now = () => AXES[this.axis ?? 0];
    return { key: "painted", name: "Level", of: (row) => now().of(row), show: (value) => now().show(value),
      get low() { return now().low; }, get high() { return now().high; } };
  }

  get address() {
    return this.challenge?.id ?? null;
  }

  buildPaper() {
    this.level = h("input", { type: "range", class: "sol-range", min: 0, step: 1, id: uniqueId("level"),
      oninput: () => this.chooseLevel(Number(this.level.value)) });
    this.levelText = h("output", { class: "sol-brush-level" });
    this.back = chip("Undo", () => this.undo());
    this.name = h("input", { type: "text", class: "sol-input", maxlength: this.page.maxName,
      placeholder: "Your name, if you like" });
    this.name.value = memory.get("player") ?? "";
    this.score = button("Score it", () => this.send(), { class: "sol-button is-primary" });
    this.note = h("p", { class: "sol-budget-note", role: "status" });
    this.link = copyChip("Copy link", () => linkTo({ challenge: this.challenge.id, paint: this.painting.letters }));
    this.lead = h("div", { class: "sol-lead" });
    this.heading = h("h2", {});
    this.tools = h("div", { class: "sol-brush", "data-axis": AXES[0].key },
      this.axisChoice.element,
      h("div", { class: "sol-brush-slider" }, h("label", { for: this.level.id }, "Level"), this.level,
        this.levelText),
      h("div", { class: "sol-tools", role: "group", "aria-label": "Start from" },
        h("span", { class: "sol-muted" }, "Start from"),
        chip("Static", () => this.load(this.challenge.plans.static)),
        chip("Policy", () => this.load(this.challenge.plans.policy)),
        chip("Nothing", () => this.load(null)), this.back));
    this.paper = h("section", { class: "sol-panel sol-painting", "aria-label": "Your schedule" },
      h("header", { class: "sol-challenge-head" }, this.heading, this.link),
      this.tools, h("div", { class: "sol-meters" }, this.meters.map((one) => one.element)),
      this.legend.element,
      h("div", { class: "sol-paint-place" }, this.lead, this.view.list,
        h("p", { class: "sol-hint" }, PAINT_HINT)),
      h("footer", { class: "sol-submit" }, labelled("Name", null, this.name), this.score, this.note));
    return this.paper;
  }

  close() {
    this.turn = {};
    this.card.hide();
    this.challenge = null;
    this.scores = [];
    show(this.empty, true);
    for (const one of [this.paper, ...this.results]) show(one, false);
    this.say(null);
  }

  async begin(request) {
    this.form.setBusy(true);
    this.say("The policy plays first, then static and ten random schedules at its spend. "
      + "This takes some seconds.", "warn");
    let challenge = null;
    try {
      challenge = await this.api("set_up_challenge", request);
    } catch (error) {
      this.form.fail(reasonOf(error, NOTHING_LOST));
    }
    this.form.setBusy(false);
    this.say(null);
    if (!challenge) return;
    this.take(challenge, "push");
    bringIntoView(this.paper);
  }

  async open(id, history) {
    if (this.challenge?.id === id) return this.toFront();
    this.toFront();
    const turn = this.turn = {};
    let challenge = null;
    try {
      challenge = await this.api("open_challenge", { challenge: id });
    } catch (error) {
      if (turn !== this.turn) return;
      this.close();
      this.say(reasonOf(error, "The server does not answer. Reload to try again."), "bad");
    }
    if (challenge && turn === this.turn) this.take(challenge, history);
  }

  take(challenge, history) {
    if (history === "push") setAddress({ compare: null, challenge: challenge.id }, true);
    this.challenge = challenge;
    this.table.share.title = this.form.titleOf(challenge.text);
    this.form.set({ ...challenge, budget: challenge.asked });
    this.painting = new Painting(challenge);
    this.scored(challenge.scores, challenge.board, null);
    setText(this.heading, `${count(challenge.steps, "token")} at the policy's spend`);
    this.lead.replaceChildren(
      h("span", { class: "sol-lead-name" }, `${count(challenge.context, "token")} before, dense`),
      h("p", { class: "sol-lead-text", dir: "auto" }, challenge.lead));
    this.painting.restore(keptPlaces(challenge.id)); // a new one has nothing painted
    this.painting.past = [];
    this.takePainted();
    this.view.clear();
    this.view.append(challenge.tokens.map((token, at) => this.row(token, at)));
    this.say(null);
    show(this.empty, false);
    for (const one of [this.paper, ...this.results]) show(one, true);
    this.brush = null;
    this.chooseAxis(0);
    this.refresh([0, challenge.steps - 1]);
    this.toFront();
  }

  // A link's schedule, once; what was painted here before comes back with Undo.
  takePainted() {
    const places = Painting.placesOf(askedFor("paint"), AXES.length);
    setAddress({ paint: null });
    if (!places.length) return;
    this.painting.remember();
    if (!this.painting.restore(places)) this.painting.past = [];
  }

  row(token, at) {
    return { ...token, action: actionOf(this.painting.actions[at]), kl_to_dense: this.mine?.kls[at] ?? null };
  }

  chooseAxis(at) {
    this.axis = at;
    const levels = this.challenge.levels[at];
    this.axisChoice.set(AXES[at].key);
    this.tools.dataset.axis = AXES[at].key;
    this.level.max = levels.length - 1;
    this.chooseLevel(levels.length - 1);
    this.legend.set(this.axes[0].key);
  }

  chooseLevel(place) {
    const levels = this.challenge.levels[this.axis];
    this.brush = place;
    this.level.value = place;
    this.level.style.setProperty("--fill", place / Math.max(levels.length - 1, 1));
    setText(this.levelText, levelText(AXES[this.axis], levels[place]));
    this.level.setAttribute("aria-valuetext", this.levelText.textContent);
  }

  // choose: from a level's place to the wanted one. A stroke remembers once, at its beginning.
  paint(range, choose, isStroke = false) {
    if (!isStroke) this.painting.remember();
    this.painting.change(this.axis, range, choose);
    this.refresh(range);
  }

  load(actions) {
    this.view.select(null);
    this.painting.load(actions);
    this.refresh([0, this.challenge.steps - 1]);
  }

  undo() {
    if (this.painting.undo()) this.refresh([0, this.challenge.steps - 1]);
  }

  refresh([from, to]) {
    for (let at = from; at <= to; at += 1) {
      this.view.update(at, this.row(this.challenge.tokens[at], at));
    }
    this.meters.forEach((one, axis) => one.update(this.painting, axis));
    this.back.disabled = this.painting.past.length === 0;
    const over = this.meters.filter((one) => one.over).map((one) => one.over);
    setText(this.note, over.length ? `Over the budget: ${over.join("; ")}. Lower some tokens to score it.`
      : "Within the budget.");
    this.note.classList.toggle("is-over", over.length > 0);
    this.score.disabled = over.length > 0 || Boolean(this.scoring);
    remember("painting", { id: this.challenge.id, places: this.painting.places });
  }

  listen() {
    const { list } = this.view;
    const indexAt = (event) => document.elementFromPoint(event.clientX, event.clientY)
      ?.closest(".sol-token")?.solIndex ?? null;
    let last = null;
    list.addEventListener("pointerdown", (event) => {
      if (event.button !== 0 || !event.isPrimary) return;
      last = indexAt(event);
      if (last === null) return;
      this.card.hide();
      this.view.select(null);
      this.stroke = true;
      this.painting.remember();
      this.paint([last, last], () => this.brush, true);
    });
    addEventListener("pointermove", (event) => {
      if (!this.stroke || !event.isPrimary) return;
      const index = indexAt(event);
      if (index === null || index === last || !list.contains(this.view.elements[index])) return;
      this.paint([Math.min(last, index), Math.max(last, index)], () => this.brush, true);
      last = index;
    });
    addEventListener("pointerup", () => { this.stroke = false; });
    // A finger that turns out to scroll the page has painted nothing.
    addEventListener("pointercancel", () => {
      if (this.stroke) this.undo();
      this.stroke = false;
    });
    list.addEventListener("keydown", (event) => this.onKey(event));
    this.name.addEventListener("input", () => memory.set("player", this.name.value));
  }

  onKey(event) {
    const key = event.key.toLowerCase();
    const isUndo = key === "z" && (event.ctrlKey || event.metaKey);
    if (!isUndo && (event.ctrlKey || event.metaKey || event.altKey)) return;
    const { current, range } = this.view;
    if (/^(arrow|home|end)/.test(key)) this.view.elements[current].scrollIntoView({ block: "nearest" });
    const chosen = range && current >= range[0] && current <= range[1] ? range : [current, current];
    const last = this.challenge.levels[this.axis].length - 1;
    if (isUndo) this.undo();
    else if (key === "escape" && range) this.view.select(null);
    else if (key === "+" || key === "=") this.paint(chosen, (place) => place + 1);
    else if (key === "-" || key === "−" || key === "_") this.paint(chosen, (place) => place - 1);
    else if (/^[0-9]$/.test(key)) {
      // 1 … 9, 0 as on the keyboard, from the lowest level to the highest.
      const share = (Number(key) === 0 ? 9 : Number(key) - 1) / 9;
      this.paint(chosen, () => Math.round(share * last));
    } else if (AXIS_KEYS.includes(key.toUpperCase())) this.chooseAxis(AXIS_KEYS.indexOf(key.toUpperCase()));
    else return;
    event.preventDefault();
    this.enter(current, this.view.elements[current]);
  }

  enter(index, token) {
    if (this.stroke) return;
    this.card.show(this.view.rows[index], token);
    this.mark(index);
  }

  mark(index) {
    this.view.mark(index);
    this.duel.mark(index);
  }

  async send() {
    if (this.score.disabled) return;
    const { challenge } = this;
    this.scoring = true;
    this.score.disabled = true;
    setText(this.score, "Scoring…");
    const { actions } = this.painting;
    let answer = null;
    try {
      answer = await this.api("score_attempt", { challenge: challenge.id, actions,
        name: this.name.value });
    } catch (error) {
      this.say(reasonOf(error, "The server did not answer. Your schedule is still here; "
        + "try again in a moment."), "bad");
    }
    this.scoring = false;
    setText(this.score, "Score it");
    if (challenge !== this.challenge) return;
    if (answer) {
      this.scored(answer.scores, answer.board, answer.id);
      this.say(answer.id === null ? "Scored. The scoreboard keeps your ten best attempts, and this "
        + "is not among them." : null, "warn");
    }
    this.refresh([0, challenge.steps - 1]);
    if (answer) setText(this.note, this.table.verdict.textContent);
  }

  scored(scores, board, latest) {
    this.scores = scores;
    this.mine = scores.find((one) => one.name === "you") ?? null;
    this.table.render(scores);
    this.duel.render(scores, this.challenge.tokens);
    this.board.render(board, latest);
  }

  async remove(entry) {
    const { board } = await this.api("delete_attempt", { challenge: this.challenge.id, id: entry.id });
    this.board.render(board, null);
  }

  say(text, kind) {
    say(this.message, text, kind);
  }
}
