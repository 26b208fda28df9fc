// The machine: a picture of one decode step, of the newest token or of any other.

import { announce, chip, drawInTurn, h, setText, show, svg, uniqueId } from "../dom.js";
import { AXES, gridLevels, levelText, nearest, probability, probabilityOf, scheduleName } from "../format.js";
import { memory } from "../memory.js";
import { LEAST_TOP, levelBars } from "../page_parts.js";
import { END, quoted, tokenNodes } from "../tokens/token_text.js";
import { Field } from "./field.js";
import { bytesText, cellNames, channelFractions, flowOf, readsOf, spokenStep } from "./reads.js";

const PLAY_MS = 125;
const SETTLED_MS = 300; // without another token: then the words for screen readers follow
const UNFOLDED_FROM = 700; // px of the window
const STACKED_BELOW = 720; // px of the panel: choice and outcome then stand under the drawing
const SHAPES = { back: "M11 2 4 8l7 6z", on: "M5 2l7 6-7 6z", play: "M4 2l9 6-9 6z",
  pause: "M4 2h3v12H4zM9 2h3v12H9z" };

const icon = (shape) => svg("svg", { viewBox: "0 0 16 16", width: 14, height: 14, "aria-hidden": "true" },
  svg("path", { d: SHAPES[shape] }));
const iconButton = (shape, label, onclick, more = {}) =>
  chip(icon(shape), onclick, { title: label, "aria-label": label, ...more });

const isOfPolicy = (row, axes) => row.policy && axes?.length === row.policy.length
  && row.policy.every((one, at) => one.length === axes[at].levels.length);

// One small histogram an axis: the policy's probability of every level, or the one level that was taken.
class Choices {
  rows = AXES.map((axis) => {
    const [value, bars] = [h("span", { class: "sol-value" }), h("div", { class: "sol-levels" })];
    return { axis, value, bars, element: h("div", { class: "sol-machine-choice", "data-axis": axis.key },
      h("span", { class: "sol-name" }, axis.name), value, bars) };
  });
  element = h("div", { class: "sol-machine-policy" }, this.rows.map((row) => row.element));

  begin(run) {
    this.axes = gridLevels(run);
    this.rows.forEach(({ bars }) => bars.replaceChildren());
  }

  /** @param {Token} token */
  show(token) {
    const chances = isOfPolicy(token, this.axes) ? token.policy : null;
    const top = Math.max(...(chances ?? []).flat(), LEAST_TOP);
    this.rows.forEach(({ axis, value, bars }) => {
      setText(value, levelText(axis, axis.of(token)));
      const at = this.axes?.findIndex((one) => one.axis === axis) ?? -1;
      const levels = this.axes?.[at]?.levels ?? [];
      const chosen = nearest(levels, axis.of(token));
      bars.replaceChildren(...levelBars(levels.map((_, level) =>
        (chances?.[at] ? chances[at][level] / top : Number(level === chosen))), chosen));
    });
  }
}

/** @param {Token} token */
function outcomeNodes(token) {
  const [read, ofDense] = bytesText(token);
  return [h("span", { class: "sol-machine-token", dir: "auto" },
    END.test(token.text) ? "end of text" : tokenNodes(token.text)),
  h("span", { class: "sol-machine-chance" }, `${probability(probabilityOf(token.surprisal))} probable`),
  h("p", { class: "sol-machine-bytes" }, h("b", {}, read), " ", h("span", { class: "sol-muted" }, ofDense))];
}

export class Machine {
  // on: {rows() → tokens on show, mark(index), textOf(page) of the cache}
  constructor(on) {
    this.on = on;
    this.field = new Field();
    this.choices = new Choices();
    this.element = this.build();
    this.fold((memory.get("machine") ?? (innerWidth < UNFOLDED_FROM ? "folded" : "open")) === "folded");
    this.clear();
    new ResizeObserver(([{ contentRect }]) => this.arrange(contentRect.width)).observe(this.figure);
  }

  build() {
    const id = uniqueId("machine");
    this.folder = chip("The machine", () => {
      this.fold(!this.isFolded);
      memory.set("machine", this.isFolded ? "folded" : "open");
    }, { class: "sol-machine-folder", "aria-controls": id });
    this.caption = h("p", { class: "sol-machine-caption" });
    this.player = iconButton("play", "Play token by token", () => (this.timer ? this.pause() : this.play()),
      { "aria-pressed": "false" });
    this.buttons = h("div",
      { class: "sol-machine-buttons", role: "group", "aria-label": "Steps of the machine" },
      iconButton("back", "Previous token", () => this.go(-1)), this.player,
      iconButton("on", "Next token", () => this.go(1)));
    this.outcome = h("div", { class: "sol-machine-outcome" });
    this.figure = h("div", { class: "sol-machine-figure", role: "img", id, "aria-label": "One decode step" },
      this.choices.element, this.field.element, this.outcome);
    this.said = h("p", { class: "sol-offscreen", role: "status" });
    return h("section", { class: "sol-panel sol-machine", "aria-label": "The machine", hidden: true },
      h("header", {}, h("h2", {}, this.folder), this.caption, this.buttons), this.figure, this.said);
  }

  fold(isFolded) {
    this.isFolded = isFolded;
    this.folder.setAttribute("aria-expanded", String(!isFolded));
    [this.caption, this.buttons, this.figure].forEach((part) => show(part, !isFolded));
    if (isFolded) this.pause();
    else this.ask();
  }

  arrange(width) {
    if (!width) return;
    this.field.sheet.isWide = width >= STACKED_BELOW;
    this.element.classList.toggle("is-stacked", !this.field.sheet.isWide);
    this.field.ask();
  }

  clear() {
    this.pause();
    clearTimeout(this.settling);
    this.run = this.at = this.held = null;
    show(this.element, false);
    setText(this.caption, "");
    setText(this.said, "");
  }

  /** @param {Run} run */
  begin(run) {
    this.run = run;
    this.choices.begin(run);
  }

  follow() {
    if (this.held === null) this.show(this.on.rows().length - 1);
  }

  mark(index) {
    this.held = index;
    if (index !== null) this.show(index);
  }

  show(index) {
    if (index === this.at || !this.on.rows()[index]) return;
    this.at = index;
    show(this.element, true);
    this.ask();
  }

  ask() {
    if (this.run && this.at !== null && !this.isFolded) drawInTurn(this, () => this.draw());
  }

  draw() {
    const token = this.on.rows()[this.at];
    if (!this.run || !token || this.isFolded) return;
    const reads = readsOf(token);
    const fractions = channelFractions(this.run.config.grid, token.action);
    const { bit_width: bits, keep_by_layer: keeps, channels_by_layer: ratios } = token.action;
    this.field.show({ reads, fractions, keeps, flow: flowOf(token), bits,
      names: reads && cellNames(reads, this.on.textOf), layers: reads?.layers ?? (keeps ?? ratios)?.length });
    this.choices.show(token);
    this.outcome.replaceChildren(...outcomeNodes(token));
    this.caption.replaceChildren(`Token ${token.index + 1} `, h("bdi", {}, quoted(token.text)));
    clearTimeout(this.settling);
    this.settling = setTimeout(
      () => this.say(spokenStep(token, reads, fractions, scheduleName(this.run, [token]))), SETTLED_MS);
  }

  say(words) {
    this.figure.setAttribute("aria-label", words);
    announce(this.said, this.isStepped ? words : "");
    this.isStepped = false;
  }

  go(steps) {
    this.pause();
    this.isStepped = true; // is read out: who cannot see the picture asked for it
    const last = this.on.rows().length - 1;
    if (last >= 0) this.on.mark(Math.min(Math.max((this.at ?? 0) + steps, 0), last));
  }

  get isAtEnd() { return this.at >= this.on.rows().length - 1; }

  play() {
    if (!this.on.rows().length) return;
    if (this.isAtEnd) this.on.mark(0);
    this.timer = setInterval(() => (this.isAtEnd ? this.pause() : this.on.mark(this.at + 1)), PLAY_MS);
    this.showPlaying();
  }

  pause() {
    if (!this.timer) return;
    clearInterval(this.timer);
    this.timer = null;
    if (this.isAtEnd) this.held = null; // what comes is followed again
    this.showPlaying();
  }

  showPlaying() {
    this.player.setAttribute("aria-pressed", String(Boolean(this.timer)));
    this.player.replaceChildren(icon(this.timer ? "pause" : "play"));
  }
}
