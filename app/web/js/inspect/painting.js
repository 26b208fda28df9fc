// Painting a schedule: levels on the tokens of an inspected text, by pointer, finger or keyboard.

import { newest } from "../shared/api.js";
import { button, chip, errorLine, h, setChildren, setText, show, showText } from "../shared/dom.js";
import {
  actionOf, AXES, gridLevels, levelText, mean, nats, nearest, percent, spendOf, spendText,
} from "../shared/format.js";
import { levelSlider, pillsField } from "../shared/forms/form_parts.js";
import { recall, remember } from "../shared/memory.js";
import { colourScale } from "../shared/tokens/token_stage.js";
import { quoted } from "../shared/tokens/token_text.js";
import { colourAxes, klAxis, TokenView } from "../shared/tokens/token_view.js";
import { bytesOf, PAINTED, rowName, rowOf, STATIC } from "./inspect_rows.js";

const UNDO_STEPS = 200;
const COUNT_AFTER_MS = 120;
const AXIS_LETTERS = AXES.map((axis) => axis.name[0]);
const PAINT_HINT = "Drag over tokens to paint, or tap them.";
const KEYS_HINT = " Keys: arrows move, Shift + arrows select, + and − change by one level, 1 … 9, 0 set "
  + `lowest to highest, ${AXIS_LETTERS.join(" ")} choose the axis, Enter paints, Ctrl + Z undoes.`;

// A schedule under the brush: which level every token has on every axis. Knows nothing of the page.
class Painting {
  /** @type {number[][][]} */
  past = [];

  /** @param {number[][]} levels of each axis, ascending @param {number[][]} actions one per token */
  constructor(levels, actions) {
    this.levels = levels;
    this.places = this.placesOf(actions);
  }

  placesOf(actions) {
    return actions.map((values) => values.map((value, axis) => nearest(this.levels[axis], value)));
  }

  actionAt(step) {
    return this.places[step].map((place, axis) => this.levels[axis][place]);
  }

  get actions() { return this.places.map((_, step) => this.actionAt(step)); }

  restore(places) {
    const fits = (step) => step?.length === this.levels.length
      && this.levels.every((levels, axis) => levels[step[axis]] !== undefined);
    if (places?.length === this.places.length && Array.from(places).every(fits)) this.places = places;
  }

  // One entry of the way back: a whole stroke comes back at once.
  remember() {
    this.past.push(this.places.map((places) => [...places]));
    if (this.past.length > UNDO_STEPS) this.past.shift();
  }

  // Back to what looked different: a click that changed nothing costs no step.
  undo() {
    const now = String(this.places);
    const before = this.past.findLastIndex((places) => String(places) !== now);
    if (before >= 0) this.places = this.past[before];
    this.past.length = Math.max(before, 0);
    return before >= 0;
  }

  // choose: from the present place of a level to the wanted one.
  change(axis, [from, to], choose) {
    const last = this.levels[axis].length - 1;
    for (let step = from; step <= to; step += 1) {
      this.places[step][axis] = Math.min(Math.max(choose(this.places[step][axis]), 0), last);
    }
  }
}

const meanText = (values) => spendText(AXES.map(({ scale, unit }, at) =>
  +(scale * values[at]).toFixed(unit === "bit" ? 1 : 0)));

export const keepToPaint = (id) => remember("painting", { id, isOpen: true });

export class PaintPanel {
  /** @type {Painting | null} */
  painting = null;
  /** Number of the painted axis. */
  axis = 0;
  /** Number of the row whose losses are shown: static's where there is one. */
  base = 1;
  /** Levels of the rows that were scored, as texts. @type {string[]} */
  scored = [];

  // on: {score(actions, fail): a promise of an id, changed(isOpen)}
  constructor(api, on) {
    this.api = api;
    this.on = on;
    const axes = Object.fromEntries(AXES.map((axis) => [axis.key, axis.name]));
    this.axisChoice = pillsField({ legend: "Paint", choices: axes, isSmall: true,
      changed: (key) => this.chooseAxis(AXES.findIndex((axis) => axis.key === key)) });
    const colours = { level: "Level", surprisal: "Surprisal", kl: "KL of static" };
    this.colour = pillsField({ legend: "Colour", choices: colours, isSmall: true, value: "level",
      changed: () => this.showColour() });
    this.view = new TokenView(AXES, { enter: (index) => this.tell(index), leave: () => {},
      select: (range) => this.view.select(range),
      pick: (index) => this.paint([index, index], () => this.brush) }, "Painted tokens");
    this.view.list.classList.add("sol-paintable");
    this.element = this.build();
    this.listen();
  }

  build() {
    this.level = h("div", { class: "sol-brush-slider" });
    this.starts = h("span", { class: "sol-tools" });
    this.back = chip("Undo", () => this.undo());
    this.scale = h("div", {});
    this.bar = h("div", { class: "sol-paint-bar", "aria-hidden": "true" });
    this.spent = h("p", { class: "sol-paint-spent", role: "status" });
    this.others = h("p", { class: "sol-hint" });
    this.spot = h("p", { class: "sol-hint sol-paint-spot" });
    this.score = button("Score it", () => this.send(), { class: "sol-button is-primary" });
    this.error = errorLine();
    this.tools = h("div", { class: "sol-brush" }, this.axisChoice.element, this.level,
      h("div", { class: "sol-tools", role: "group", "aria-label": "Start from" },
        h("span", { class: "sol-muted" }, "Start from"), this.starts, this.back));
    return h("section", { class: "sol-panel sol-painting", "aria-label": "Painted schedule", hidden: true },
      h("header", { class: "sol-paint-head" }, h("h2", { tabindex: "-1" }, "Paint a schedule"),
        chip("Close", () => this.close(true))),
      this.tools,
      h("div", { class: "sol-paint-compute" }, this.spent, this.bar, this.others),
      h("div", { class: "sol-legend" }, this.colour.element, this.scale, this.spot),
      h("div", { class: "sol-paint-place" }, this.view.lead, this.view.list),
      h("footer", { class: "sol-token-foot" }, h("p", { class: "sol-selection" },
        h("span", {}, PAINT_HINT, h("span", { class: "sol-paint-keys" }, KEYS_HINT))), this.score),
      this.error);
  }

  static isKept(run) {
    const { id, isOpen } = recall("painting");
    return id === run.id && isOpen === true;
  }

  open(run, tokens, names) {
    const axes = gridLevels(run) ?? [];
    this.run = run;
    this.tokens = tokens;
    this.names = names;
    this.compute = null;
    const own = names.indexOf(PAINTED);
    this.base = Math.max(names.indexOf(STATIC), 1);
    this.painting = new Painting(axes.map(({ levels }) => levels), this.actionsOf(own > 0 ? own : this.base));
    this.scored = names.map((_, at) => String(this.painting?.placesOf(this.actionsOf(at))));
    const kept = recall("painting");
    if (kept.id === run.id) this.painting.restore(kept.places);
    const least = this.painting.levels.map((levels) => levels[0]);
    const starts = names.map((name, at) => chip(rowName(name), () => this.load(this.actionsOf(at))));
    this.starts.replaceChildren(...starts.slice(1), chip("Least", () => this.load(tokens.map(() => least))));
    this.view.clear();
    this.view.append(tokens.map((_, at) => this.row(at)));
    const [full, ...read] = names.map((_, at) => bytesOf(tokens, at));
    setText(this.others, read.map((bytes, at) =>
      `${rowName(names[at + 1])} ${percent(bytes / full, 1)}`).join(" · "));
    setText(this.spot, "");
    showText(this.error, null);
    this.chooseAxis(0);
    show(this.element, true);
    this.refresh([0, tokens.length - 1]);
    this.on.changed(true);
  }

  // isForGood: somebody closed it; else another inspection comes.
  close(isForGood = false) {
    if (!this.painting) return;
    if (isForGood) this.keep(false);
    this.painting = null;
    clearTimeout(this.timer);
    show(this.element, false);
    this.on.changed(false);
  }

  keep(isOpen) {
    remember("painting", { id: this.run.id, isOpen, places: this.painting?.places });
  }

  actionsOf(at) {
    return this.tokens.map(({ rows }) => AXES.map((axis) => axis.of(rows[at])));
  }

  row(at) {
    const action = actionOf(this.painting?.actionAt(at) ?? []);
    return { ...rowOf(this.tokens[at], this.base), policy: null, action };
  }

  chooseAxis(at) {
    const levels = this.painting?.levels[at] ?? [];
    this.axis = at;
    this.axisChoice.set(AXES[at].key);
    const slider = levelSlider({ label: "Level", axis: AXES[at].key, levels, at: levels.length - 1,
      text: (level) => levelText(AXES[at], level), show: (place) => { this.brush = place; } });
    this.level.replaceChildren(slider.element);
    slider.update();
    this.showColour();
  }

  showColour() {
    const key = this.colour.get();
    const axis = key === "level" ? AXES[this.axis] : key === "kl" ? klAxis("KL of static")
      : colourAxes().find((colour) => colour.key === key);
    this.scale.replaceChildren(colourScale(axis));
    this.view.setAxis(axis);
  }

  // choose: from a level's place to the wanted one. A stroke remembers once, at its beginning.
  paint(range, choose, isStroke = false) {
    if (!this.painting) return;
    if (!isStroke) this.painting.remember();
    this.painting.change(this.axis, range, choose);
    this.refresh(range);
    this.tell(range[1]);
  }

  load(actions) {
    if (!this.painting) return;
    this.view.select(null);
    this.painting.remember();
    this.painting.places = this.painting.placesOf(actions);
    this.refresh([0, this.tokens.length - 1]);
  }

  undo() {
    if (this.painting?.undo()) this.refresh([0, this.tokens.length - 1]);
  }

  refresh([from, to]) {
    for (let at = from; at <= to; at += 1) this.view.update(at, this.row(at));
    this.back.disabled = !this.painting?.past.length;
    this.keep(true);
    this.score.disabled = this.scored.includes(String(this.painting?.places));
    this.score.title = this.score.disabled ? "Paint something first: these levels are scored already" : "";
    this.say();
    clearTimeout(this.timer);
    this.timer = setTimeout(() => this.count(), COUNT_AFTER_MS);
  }

  async count() {
    const answer = await newest(this, this.api("painted_compute", { inspection_id: this.run.id,
      painted: this.painting?.actions }).catch(() => null));
    this.compute = answer?.share ?? null;
    this.say();
  }

  say() {
    const actions = this.painting?.actions ?? [];
    const means = AXES.map((_, axis) => mean(actions.map((action) => action[axis])));
    setChildren(this.spent, "Painted: ", h("b", {}, percent(this.compute, 2)),
      ` of the full model's compute · ${meanText(means)}`);
    this.bar.style.setProperty("--v", String(this.compute ?? 0));
  }

  tell(index) {
    const token = this.tokens[index];
    if (!token) return;
    const row = this.row(index);
    setText(this.spot, `${quoted(token.text)}, token ${index + 1}: ${spendOf(row)}. `
      + `Surprisal ${nats(token.rows[0].nll)} nats; ${rowName(this.names[this.base])} lost KL `
      + `${nats(row.kl_to_dense)}.`);
  }

  listen() {
    const { list } = this.view;
    const indexAt = ({ clientX, clientY }) =>
      document.elementFromPoint(clientX, clientY)?.closest(".sol-token")?.solIndex ?? null;
    let last = null; // place of a stroke
    list.addEventListener("pointerdown", (event) => {
      last = event.button === 0 && event.isPrimary && this.painting ? indexAt(event) : null;
      if (last === null) return;
      this.view.select(null);
      this.paint([last, last], () => this.brush);
    });
    addEventListener("pointermove", (event) => {
      const index = last !== null && event.isPrimary ? indexAt(event) : null;
      if (index === null || index === last || !list.contains(this.view.elements[index])) return;
      this.paint([Math.min(last, index), Math.max(last, index)], () => this.brush, true);
      last = index;
    });
    addEventListener("pointerup", () => { last = null; });
    // A finger that turns out to scroll the page has painted nothing.
    addEventListener("pointercancel", () => {
      if (last !== null) this.undo();
      last = null;
    });
    list.addEventListener("keydown", (event) => this.onKey(event));
  }

  onKey(event) {
    const key = event.key.toLowerCase();
    const isUndo = key === "z" && (event.ctrlKey || event.metaKey);
    if (!this.painting || (!isUndo && (event.ctrlKey || event.metaKey || event.altKey))) return;
    const { current, range } = this.view;
    if (/^(arrow|home|end)/.test(key)) this.view.elements[current].scrollIntoView({ block: "nearest" });
    const chosen = range && current >= range[0] && current <= range[1] ? range : [current, current];
    const last = this.painting.levels[this.axis].length - 1;
    const axis = AXIS_LETTERS.indexOf(key.toUpperCase());
    if (isUndo) this.undo();
    else if (key === "escape" && range) this.view.select(null);
    else if (key === "+" || key === "=") this.paint(chosen, (place) => place + 1);
    else if (key === "-" || key === "−" || key === "_") this.paint(chosen, (place) => place - 1);
    else if (/^[0-9]$/.test(key)) { // 1 … 9, 0 as on the keyboard, from the lowest level to the highest
      this.paint(chosen, () => Math.round(((Number(key) + 9) % 10 / 9) * last));
    } else if (axis >= 0) this.chooseAxis(axis);
    else return;
    event.preventDefault();
  }

  async send() {
    this.score.disabled = true;
    showText(this.error, null);
    const id = await this.on.score(this.painting?.actions, (words) => showText(this.error, words));
    if (id) remember("painting", { ...recall("painting"), isOpen: false });
    this.score.disabled = false;
  }
}
