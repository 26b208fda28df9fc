// The machine: a picture of one decode step, drawn for the newest token while they stream, and for any other
// by hover, arrow keys or its own buttons.

import { drawInTurn, h, setText, show, svg, uniqueId } from "../dom.js";
import { memory } from "../memory.js";
import { Field } from "./field.js";
import { captionNodes, flowOf, mlpShares, readsOf, spokenStep } from "./reads.js";
import { Choices, Outcome, plainTitle } from "./sides.js";

const KEPT = "machine"; // folded or not, in the browser's memory
const PLAY_MS = 125;
const SETTLED_MS = 300; // without another token: then the words for screen readers follow
const UNFOLDED_FROM = 700; // px of the window
const STACKED_BELOW = 640; // px of the panel: choice and outcome then stand under the drawing
const SHAPES = { back: "M11 2 4 8l7 6z", on: "M5 2l7 6-7 6z", play: "M4 2l9 6-9 6z", pause: "M4 2h3v12H4zM9 2h3v12H9z" };

const icon = (shape) => svg("svg", { viewBox: "0 0 16 16", width: 14, height: 14, "aria-hidden": "true" },
  svg("path", { d: SHAPES[shape] }));
const iconButton = (shape, label, onclick, more = {}) => h("button", { type: "button", class: "sol-chip", title: label,
  "aria-label": label, onclick, ...more }, icon(shape));

export class Machine {
  // on: {rows() → tokens on show, mark(index)}
  constructor(on) {
    this.on = on;
    this.field = new Field();
    this.choices = new Choices();
    this.outcome = new Outcome();
    this.element = this.build();
    this.fold(memory.get(KEPT) ? memory.get(KEPT) === "folded" : innerWidth < UNFOLDED_FROM);
    this.clear();
    new ResizeObserver(([{ contentRect }]) => this.arrange(contentRect.width)).observe(this.figure);
  }

  build() {
    const id = uniqueId("machine");
    this.folder = h("button", { type: "button", class: "sol-machine-folder", "aria-controls": id, onclick: () => {
      this.fold(!this.isFolded);
      memory.set(KEPT, this.isFolded ? "folded" : "open");
    } }, "The machine");
    this.caption = h("p", { class: "sol-machine-caption" });
    this.player = iconButton("play", "Play token by token", () => (this.timer ? this.pause() : this.play()),
      { "aria-pressed": "false" });
    this.buttons = h("div", { class: "sol-machine-buttons", role: "group", "aria-label": "Steps of the machine" },
      iconButton("back", "Previous token", () => this.go(-1)), this.player, iconButton("on", "Next token", () => this.go(1)));
    this.figure = h("div", { class: "sol-machine-figure", role: "img", id, "aria-label": "One decode step" },
      this.choices.element, this.field.element, this.outcome.element);
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
    this.field.show(null);
    setText(this.caption, "");
    setText(this.said, "");
  }

  /** @param {Run} run */
  begin(run) {
    this.run = run;
    this.choices.begin(run);
    show(this.element, true);
  }

  // More tokens are there: the newest is shown unless somebody looks at another.
  follow() {
    if (this.held === null) this.show(this.on.rows().length - 1);
  }

  // Somebody looks at this token (null: at none).
  mark(index) {
    this.held = index;
    if (index !== null) this.show(index);
  }

  show(index) {
    if (index === this.at || !this.on.rows()[index]) return;
    this.at = index;
    this.ask();
  }

  ask() {
    if (this.run && this.at !== null && !this.isFolded) drawInTurn(this, () => this.draw());
  }

  draw() {
    const token = this.on.rows()[this.at];
    if (!this.run || !token || this.isFolded) return;
    const reads = readsOf(token);
    const shares = mlpShares(this.run.config.grid, token.action.channel_keep_ratio);
    this.field.show({ reads, shares, flow: flowOf(token), bits: token.action.bit_width });
    this.choices.show(token);
    this.outcome.show(token);
    this.caption.replaceChildren(...captionNodes(token, reads));
    clearTimeout(this.settling);
    this.settling = setTimeout(() => this.say(spokenStep(token, reads, shares, plainTitle(this.run))), SETTLED_MS);
  }

  say(words) {
    this.figure.setAttribute("aria-label", words);
    setText(this.said, this.isStepped ? words : "");
    this.isStepped = false;
  }

  go(steps) {
    this.pause();
    this.isStepped = true; // is read out: who cannot see the picture asked for it
    const last = this.on.rows().length - 1;
    if (last >= 0) this.on.mark(Math.min(Math.max((this.at ?? 0) + steps, 0), last));
  }

  play() {
    if (!this.on.rows().length) return;
    if (this.at >= this.on.rows().length - 1) this.on.mark(0);
    this.timer = setInterval(() => {
      if (this.at < this.on.rows().length - 1) this.on.mark(this.at + 1);
      else this.pause();
    }, PLAY_MS);
    this.showPlaying();
  }

  pause() {
    if (!this.timer) return;
    clearInterval(this.timer);
    this.timer = null;
    if (this.at >= this.on.rows().length - 1) this.held = null; // at the end: what comes is followed again
    this.showPlaying();
  }

  showPlaying() {
    this.player.setAttribute("aria-pressed", String(Boolean(this.timer)));
    this.player.replaceChildren(icon(this.timer ? "pause" : "play"));
  }
}
