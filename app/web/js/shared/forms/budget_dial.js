// The budget of a form: one dial for attention and MLP, or an axis at a time; bits always have their own.

import { newest } from "../api.js";
import { h, setText, show } from "../dom.js";
import { AXES, percent, spendText } from "../format.js";
import { glossed } from "../glossary.js";
import { keptOpen } from "../memory.js";
import { elementsOf, labelledRange } from "./form_parts.js";

const ASK_AFTER_MS = 150;
export const ZONE_TOKENS = 40; // the zones were chosen on so many (docs/results.md)
const FORECASTS = { "will break": "broken text, though short answers may hold" };

// Python says which mix of attention and MLP meets a share of the bytes after a prompt of this length. Until
// somebody turns the dial, it follows: it stands where the text stays the full model's.
export class BudgetDial {
  /** @type {Estimate | null} */
  estimate = null;
  value = 0; // percent of the bytes; 0: each axis has a budget of its own
  /** It follows the prompt's length; null: where it stands there already. @type {boolean | null} */
  isUsual = false;
  /** The prompt sent with what the dial shows: no estimate moves it for that one. @type {string | null} */
  sent = null;

  // fields: by the axes' short names; defaults: the form's; changed(): the form has other values now
  constructor(fields, defaults, ask, changed, follows = true) {
    this.fields = fields;
    this.defaults = defaults;
    this.ask = ask;
    this.changed = changed;
    const oninput = () => {
      this.take(this.range.valueAsNumber);
      this.say();
    };
    this.output = h("output", { class: "sol-dial-share" });
    this.slider = labelledRange(glossed("[[compute|Compute]]", true), null, { min: 1, max: 100, oninput },
      this.output);
    this.range = this.slider.range;
    this.note = h("p", { class: "sol-hint" });
    this.promise = h("p", { class: "sol-promise" });
    this.zones = h("div", { class: "sol-zones", "aria-hidden": "true" },
      ["will break", "small changes", "same text"].map((zone) => h("span", {}, zone)));
    const { bits, ...axes } = fields;
    Object.values(axes).forEach((field) => field.element.addEventListener("input", () => this.take(0)));
    this.axes = h("details", { class: "sol-axes", ...keptOpen("budgetAxes") },
      h("summary", {}, "Set each axis"), elementsOf(axes), bits.element);
    this.slider.element.append(this.zones, this.promise, this.note);
    this.element = h("div", { class: "sol-dial" }, this.slider.element, this.axes);
    this.field = { get: () => this.value, isUsual: () => this.isUsual,
      set: (value) => this.take(Number(value) || 0, follows && (Number(value) === defaults.share || null)) };
  }

  /** @param {number} value @param {boolean | null} [isUsual] */
  take(value, isUsual = false) {
    this.value = value;
    this.isUsual = isUsual;
  }

  // The form has other values: the dial stands where the share is; the axes unfold where they decide.
  follow(prompt) {
    if (prompt !== this.sent) this.sent = null;
    const isSet = ([name, field]) => field.get() !== this.defaults[name];
    const isOwn = !this.value && Object.entries(this.fields).some(isSet);
    if (isOwn || this.fields.bits.problem()) this.axes.open = true;
    this.say();
    this.turn = {}; // an answer that is on its way is about other values
    clearTimeout(this.timer);
    this.timer = setTimeout(() => this.refresh(), ASK_AFTER_MS);
  }

  async refresh() {
    const answer = await newest(this, this.ask().catch(() => null)); // what is wrong is said when it is sent
    this.estimate = answer?.share ? answer : null;
    if (this.estimate && this.value) this.useMix(this.estimate);
    this.say();
  }

  // A share that cannot be reached after so short a prompt rises to the lowest one.
  /** @param {Estimate} estimate */
  useMix({ lowest = 0, usual = 1, mix }) {
    const least = Math.ceil(100 * lowest);
    this.range.min = String(least);
    const follows = Math.max(least, Math.ceil(100 * usual));
    this.isUsual ??= this.value === follows;
    const value = this.isUsual ? follows : Math.max(least, this.value);
    if (value !== this.value && this.sent === null) {
      this.value = value;
      return this.changed(); // and asks again
    }
    for (const name of ["keep", "channels"]) this.fields[name].set(Math.round(mix[name]));
  }

  /** What the budget does to the text and to the speed, before anything runs. @param {Estimate} estimate */
  showPromise({ zone = "", zones: [same, small] = [1, 1], speed = "", lowest = 0 }) {
    const width = (from, to) => Math.max(0, Math.min(1, to) - Math.max(lowest, from));
    const widths = [width(lowest, small), width(small, same), width(same, 1)];
    [...this.zones.children].forEach((part, at) => {
      part.style.flexGrow = String(100 * widths[at]);
      show(part, widths[at] > 0);
      part.classList.toggle("is-here", part.textContent === zone);
    });
    // Without a speed the zones say it to who sees them.
    this.promise.classList.toggle("sol-offscreen", !speed);
    const text = FORECASTS[zone] ?? zone;
    setText(this.promise, `Forecast for the first ${ZONE_TOKENS} tokens: ${text}${speed && `; ${speed}`}.`);
  }

  say() {
    const { estimate, value } = this;
    const share = value || (estimate ? Math.round(100 * estimate.share) : 0);
    if (share) this.range.value = String(share);
    this.slider.paint();
    setText(this.output, share ? `${share} %` : "");
    const mix = spendText(AXES.map(({ short }) => this.fields[short].get()));
    this.range.setAttribute("aria-valuetext", `${share} %: ${mix}`);
    show(this.note, Boolean(estimate));
    const promised = value && estimate?.zones ? estimate : null;
    [this.zones, this.promise].forEach((element) => show(element, Boolean(promised)));
    if (!estimate) return;
    if (promised) this.showPromise(promised);
    const measured = estimate.measured_on
      ? ` The mix was chosen by measurements on ${estimate.measured_on}, not on this model.` : "";
    const lowest = value > 100 * (estimate.lowest ?? 0) + 1 ? "" : "Lowest possible here.";
    const moved = this.isUsual && value < this.defaults.share
      ? `Moved from ${this.defaults.share} %: after so long a text, less still keeps the answer.` : "";
    setText(this.note, value ? [lowest || moved, measured].join("")
      : `Compute of these three settings: ${percent(estimate.share)}.`);
  }
}
